/* A native program after docs/BOARD.md, small enough to compile in a moment: y = 2 * x over four
   float32 values. The helper that makes bundles writes the way it misbehaves into `variant`. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 4 };
static volatile char variant[64] = "variant=good                                                  ";

static int is(const char *name) {
  char text[sizeof variant];
  for (unsigned i = 0; i < sizeof variant; i++) text[i] = variant[i];
  text[sizeof text - 1] = 0;
  return strncmp(text + strlen("variant="), name, strlen(name)) == 0;
}

static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
  for (int i = 2; i + 1 < argc; i++)
    if (strcmp(argv[i], name) == 0) return argv[i + 1];
  return otherwise;
}

static int load(const char *path, float *values, int count) {
  FILE *f = fopen(path, "rb");
  int ok = f && fread(values, sizeof *values, count, f) == (size_t)count && fgetc(f) == EOF;
  if (f) fclose(f);
  if (!ok) fprintf(stderr, "%s does not hold %d float32 values\n", path, count);
  return ok;
}

static void compute(const float *x, float *y, int count) {
  for (int i = 0; i < count; i++) y[i] = x[i] * (is("wrong") ? 3.0f : 2.0f);
  if (is("nan")) y[0] = NAN;
}

static int run(int argc, char **argv) {
  int count = WIDTH * atoi(option(argc, argv, "--batch", "1"));
  float *x = malloc(count * sizeof *x), *y = malloc(count * sizeof *y);
  if (!load(option(argc, argv, "--input", ""), x, count)) return 3;
  compute(x, y, count);
  FILE *f = fopen(option(argc, argv, "--output", ""), "wb");
  int ok = f && fwrite(y, sizeof *y, count, f) == (size_t)count;
  return f && fclose(f) == 0 && ok ? 0 : 1;
}

static int check(int argc, char **argv) {
  float x[WIDTH], y[WIDTH], expected[WIDTH];
  if (!load(option(argc, argv, "--input", ""), x, WIDTH)) return 3;
  if (!load(option(argc, argv, "--expect", ""), expected, WIDTH)) return 3;
  compute(x, y, WIDTH);
  double diff = 0, scale = 0;
  for (int i = 0; i < WIDTH; i++) {
    diff = fabs((double)y[i] - expected[i]) > diff ? fabs((double)y[i] - expected[i]) : diff;
    scale = fabs((double)expected[i]) > scale ? fabs((double)expected[i]) : scale;
    if (isnan(y[i])) diff = INFINITY;
  }
  double rtol = atof(option(argc, argv, "--rtol", "0")), atol = atof(option(argc, argv, "--atol", "0"));
  int ok = diff <= atol + rtol * scale;
  if (isinf(diff))
    printf("{\"max_abs_diff\":null,\"scale\":%.9g,\"ok\":false}\n", scale);
  else
    printf("{\"max_abs_diff\":%.9g,\"scale\":%.9g,\"ok\":%s}\n", diff, scale, ok ? "true" : "false");
  return ok ? 0 : 7;
}

static int bench(int argc, char **argv) {
  int virtual_clock = is("always virtual"), repeats = atoi(option(argc, argv, "--repeats", "1"));
  for (int i = 2; i < argc; i++) virtual_clock |= strcmp(argv[i], "--virtual-clock") == 0;
  printf("{\"clock\":\"%s\",\"unit\":\"ns\",\"samples\":[", virtual_clock ? "virtual" : "monotonic");
  for (int i = 0; i < repeats - is("short bench"); i++) {
    struct timespec a, b;
    float x[WIDTH] = {1, 2, 3, 4}, y[WIDTH];
    clock_gettime(CLOCK_MONOTONIC, &a);
    compute(x, y, WIDTH);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ns = (b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec) + 1;
    printf("%s%.0f", i ? "," : "", virtual_clock ? (is("slow") ? 50e6 : 1e6) : ns);
  }
  printf("],\"reference\":[");
  for (int i = 0; !virtual_clock && i < repeats; i++) printf("%s1000", i ? "," : "");
  printf("]}\n");
  return 0;
}

int main(int argc, char **argv) {
  const char *command = argc > 1 ? argv[1] : "";
  if (is("crash in check") && strcmp(command, "check") == 0) raise(SIGSEGV);
  if (is("crash in bench") && strcmp(command, "bench") == 0) raise(SIGSEGV);
  if (is("crash as current") && strncmp(argv[0], "current/", 8) == 0) raise(SIGSEGV);
  if (is("hang")) pause();
  if (is("silent")) return 0;
  if (strcmp(command, "run") == 0) return run(argc, argv);
  if (strcmp(command, "check") == 0) return check(argc, argv);
  if (strcmp(command, "bench") == 0) return bench(argc, argv);
  fprintf(stderr, "usage: model run|check|bench\n");
  return 2;
}
