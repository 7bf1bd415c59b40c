/* Command line of the native program; docs/BOARD.md describes it. JSON on stdout, words on stderr. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "main.h"

int fail(int code, const char *what, const char *about) {
  fprintf(stderr, "%s: %s%s%s\n", ep_name, what, about ? ": " : "", about ? about : "");
  return code;
}

/* ---- clock: real, or the sum of the costs that the calls carry ------------------------------ */

static uint64_t virtual_now;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t clock_ns(const options *o) { return o->virtual_clock ? virtual_now : now_ns(); }

/* ---- reference: a piece of work that is the same in every program, so that its time is the clock's speed ---- */

enum { REFERENCE_FLOATS = 1024, REFERENCE_PASSES = 256 };

/* Its time; 0 on the virtual clock, and where kernels run on a GPU, of whose clock it says nothing. */
static double reference_ns(const options *o) {
  /* Volatile: nothing can be computed beforehand, left out, or moved out from between the clock readings. */
  static volatile float factor = 0.75f, summand = 0.25f, sink;
  static volatile unsigned kept = 17;
  if (o->virtual_clock || !ep_paced) return 0;
  _Alignas(64) float y[REFERENCE_FLOATS];
  for (int i = 0; i < REFERENCE_FLOATS; i++) y[i] = (float)i / REFERENCE_FLOATS; /* tends to 1, never subnormal */
  uint64_t begin = now_ns();
  float a = factor, b = summand;
  for (int pass = 0; pass < REFERENCE_PASSES; pass++)
    for (int i = 0; i < REFERENCE_FLOATS; i++) y[i] = y[i] * a + b;
  sink = y[kept % REFERENCE_FLOATS];
  (void)sink;
  double ns = (double)(now_ns() - begin);
  ep_wake(); /* what is timed next finds the workers as a kernel before it would have left them */
  return ns;
}

/* Its quickest time in this process, or what --nominal-ns says. A sample before or after which the loop took more than
 * SLOWER times as long met a slow clock: it counts for nothing as long as another may be taken. */
#define SLOWER 1.03
static double nominal_ns;

static int at_nominal_clock(const options *o, double reference) {
  if (reference == 0) return 1;
  if (o->nominal_ns == 0 && (nominal_ns == 0 || reference < nominal_ns)) nominal_ns = reference;
  return reference <= SLOWER * (o->nominal_ns ? (double)o->nominal_ns : nominal_ns);
}

/* Room for its time before the first sample and after each, or NULL where there is none; 0 if memory is short. */
static int references(const options *o, double **reference) {
  *reference = NULL;
  if (o->virtual_clock || !ep_paced) return 1;
  *reference = calloc((size_t)(o->repeats + o->retakes + 1), sizeof **reference);
  return *reference != NULL;
}

static void print_references(const double *reference, long samples) {
  printf("\"reference\":[");
  for (long i = 0; reference && i <= samples; i++) printf("%s%.1f", i ? "," : "", reference[i]);
  printf("]");
}

/* ---- arguments ------------------------------------------------------------------------------- */

static int parse_long(const char *text, long low, long *value) {
  char *end = NULL;
  long v = strtol(text, &end, 10);
  if (end == text || *end != '\0' || v < low) return 0;
  *value = v;
  return 1;
}

static int parse_double(const char *text, double *value) {
  char *end = NULL;
  double v = strtod(text, &end);
  if (end == text || *end != '\0' || !(v >= 0)) return 0;
  *value = v;
  return 1;
}

SMALL static int parse_anomalies(const char *text, int *mode) {
  static const char *const modes[] = {[GUARD] = "guard", [REFUSE] = "refuse", [FLAG] = "flag", [OFF] = "off"};
  for (int i = 0; i < (int)(sizeof modes / sizeof *modes); i++)
    if (strcmp(text, modes[i]) == 0) return *mode = i, 1;
  return 0;
}

static int push(const char **list, int *count, const char *value) {
  if (*count == MAX_PORTS) return 0;
  list[(*count)++] = value;
  return 1;
}

SMALL static int parse(int argc, char **argv, options *o) {
  for (int i = 0; i < argc; i++) {
    const char *a = argv[i];
    if (strcmp(a, "--virtual-clock") == 0) {
      o->virtual_clock = 1;
      continue;
    }
    const char *v = i + 1 < argc ? argv[++i] : NULL;
    int ok = v != NULL;
    if (!ok)
      ;
    else if (strcmp(a, "--input") == 0)
      ok = push(o->inputs, &o->input_count, v);
    else if (strcmp(a, "--output") == 0)
      ok = push(o->outputs, &o->output_count, v);
    else if (strcmp(a, "--expect") == 0)
      ok = push(o->expects, &o->expect_count, v);
    else if (strcmp(a, "--batch") == 0)
      ok = parse_long(v, 1, &o->batch);
    else if (strcmp(a, "--threads") == 0)
      ok = parse_long(v, 1, &o->threads);
    else if (strcmp(a, "--warmup") == 0)
      ok = parse_long(v, 0, &o->warmup);
    else if (strcmp(a, "--repeats") == 0)
      ok = parse_long(v, 1, &o->repeats);
    else if (strcmp(a, "--min-ns") == 0)
      ok = parse_long(v, 0, &o->min_ns);
    else if (strcmp(a, "--retakes") == 0)
      ok = parse_long(v, 0, &o->retakes);
    else if (strcmp(a, "--nominal-ns") == 0)
      ok = parse_long(v, 0, &o->nominal_ns);
    else if (strcmp(a, "--first") == 0)
      ok = parse_long(v, 0, &o->first);
    else if (strcmp(a, "--weight-span") == 0)
      ok = parse_long(v, 0, &o->weight_span);
    else if (strcmp(a, "--anomalies") == 0)
      ok = parse_anomalies(v, &o->anomalies);
    else if (strcmp(a, "--rtol") == 0)
      ok = parse_double(v, &o->rtol);
    else if (strcmp(a, "--atol") == 0)
      ok = parse_double(v, &o->atol);
    else
      ok = 0;
    if (!ok) return fail(USAGE, "bad or incomplete argument", a);
  }
  return OK;
}

/* ---- commands that time ------------------------------------------------------------------------------ */

/* Calls `one` until min_ns passed (at least once), waits for the end of all, and returns ns a call. */
static int sample(ep_model *model, const options *o, int (*one)(ep_model *, int), int index, uint64_t cost, double *ns) {
  long calls = 0;
  uint64_t begin = clock_ns(o), elapsed;
  do {
    if (one(model, index) != 0) return -1;
    virtual_now += cost;
    calls++;
    /* The first alone: slow ones must not queue up unseen behind the GPU. */
    if (calls == 1 && ep_finish(model) != 0) return -1;
    elapsed = clock_ns(o) - begin;
  } while (!o->virtual_clock && elapsed < (uint64_t)o->min_ns);
  if (ep_finish(model) != 0) return -1;
  elapsed = clock_ns(o) - begin;
  *ns = (double)elapsed / (double)calls;
  return 0;
}

/* Prints them, and returns how many there are. `reference`, if there is one, gets its time before the first and after
 * each; instead of samples that met a slow clock others are taken, as many as may be retaken. */
static long samples(ep_model *model, const options *o, int (*one)(ep_model *, int), int index, uint64_t cost,
                    double *reference) {
  double ns = 0;
  long count = 0, most = o->repeats + (reference ? o->retakes : 0);
  for (long i = 0; i < o->warmup; i++)
    if (sample(model, o, one, index, cost, &ns) != 0) return -1;
  int before = 1, after = 1;
  if (reference) before = at_nominal_clock(o, reference[0] = reference_ns(o));
  for (long good = 0; good < o->repeats && count < most; before = after) {
    if (sample(model, o, one, index, cost, &ns) != 0) return -1;
    printf("%s%.1f", count ? "," : "", ns);
    count++;
    if (reference) after = at_nominal_clock(o, reference[count] = reference_ns(o));
    good += before && after;
  }
  return count;
}

static ports bench_inputs, bench_outputs;

static int whole(ep_model *model, int unused) {
  (void)unused;
  return ep_run(model, (const void *const *)bench_inputs.data, bench_outputs.data);
}

/* Real numbers, or grey levels of a frame; integers stay 0, since they may be places in a table. */
static void fill(const ep_port *port, void *values) {
  ep_type type = port->tensor.type;
  memset(values, 0, port->tensor.elements * ep_type_bytes(type));
  for (uint64_t j = 0; j < port->tensor.elements; j++) {
    unsigned char *at = (unsigned char *)values + j * ep_type_bytes(type);
    float number = (float)(j % 251) / 125.0f - 1.0f;
    if (port->held == EP_UINT8) *at = (unsigned char)(j % 251);
    else if (type == EP_FLOAT32 || type == EP_FLOAT16 || type == EP_FLOAT64) ep_give(type, &number, at, 1);
  }
}

static int open_ports(void) {
  int code = buffers(&bench_inputs, ep_input_count, ep_input);
  if (code == OK) code = buffers(&bench_outputs, ep_output_count, ep_output);
  for (int i = 0; code == OK && i < ep_input_count; i++) fill(&ep_inputs[i], bench_inputs.data[i]);
  return code;
}

static void close_ports(void) {
  release(&bench_inputs);
  release(&bench_outputs);
}

static int bench(ep_model *model, const options *o) {
  uint64_t cost = 0;
  for (int i = 0; i < ep_call_count; i++) cost += ep_calls[i].virtual_ns;
  int code = open_ports();
  double *reference = NULL;
  if (code == OK && !references(o, &reference)) code = fail(INTERNAL, "out of memory", NULL);
  if (code == OK) {
    printf("{\"clock\":\"%s\",\"unit\":\"ns\",\"samples\":[", o->virtual_clock ? "virtual" : "monotonic");
    long count = samples(model, o, whole, 0, cost, reference);
    if (count < 0) code = fail(INTERNAL, ep_error(), NULL);
    printf("],");
    print_references(reference, count - 1); /* the one before each, and not the last one after */
    printf(",\"allocated_bytes\":%llu}\n", (unsigned long long)ep_allocated());
  }
  free(reference);
  close_ports();
  return code;
}

static int one_kernel(ep_model *model, int index) {
  ep_next_weights(model, index);
  return ep_run_call(model, index);
}

/* Kernels that are only here to be timed: one after the other, each many times. */
static int alone(ep_model *model, const options *o) {
  double *reference;
  if (!references(o, &reference)) return fail(INTERNAL, "out of memory", NULL);
  int code = OK;
  for (int i = (int)o->first; code == OK && i < ep_call_count; i++) {
    ep_fill_arena(model);
    ep_fill_weights(model, i);
    printf("{\"index\":%d,\"name\":\"%s\",\"samples\":[", i, ep_calls[i].name);
    long count = samples(model, o, one_kernel, i, ep_calls[i].virtual_ns, reference);
    printf("],\"finite\":%s,", count >= 0 && ep_call_finite(model, i) ? "true" : "false");
    print_references(reference, count);
    printf("}\n");
    fflush(stdout); /* what was measured survives a kernel that crashes */
    if (count < 0) code = fail(INTERNAL, ep_error(), ep_calls[i].name);
  }
  free(reference);
  return code;
}

static void print_samples(const double *ns, long count) {
  for (long r = 0; r < count; r++) printf("%s%.1f", r ? "," : "", ns[r]);
}

/* When the inference that is timed passed each call, and the end of the last. */
static uint64_t *passed;
static const options *passing;

static void pass(ep_model *model, int next) {
  ep_finish(model); /* if that fails, the inference fails with it */
  if (next > 0) virtual_now += ep_calls[next - 1].virtual_ns;
  passed[next] = clock_ns(passing);
}

/* The kernels of a network: in their places, with the caches as the kernels before leave them. */
static int in_place(ep_model *model, const options *o) {
  double *reference = NULL, *ns = calloc((size_t)(ep_call_count + 1) * (size_t)o->repeats, sizeof *ns);
  int code = open_ports();
  passed = calloc((size_t)ep_call_count + 1, sizeof *passed);
  if (code == OK && (ns == NULL || passed == NULL || !references(o, &reference)))
    code = fail(INTERNAL, "out of memory", NULL);
  passing = o;
  ep_passes = pass;
  for (long r = -o->warmup; code == OK && r < o->repeats; r++) {
    if (reference && r == 0) reference[0] = reference_ns(o);
    uint64_t begin = clock_ns(o);
    if (whole(model, 0) != 0) code = fail(INTERNAL, ep_error(), NULL);
    uint64_t end = clock_ns(o);
    for (int i = 0; code == OK && r >= 0 && i < ep_call_count; i++)
      ns[(long)i * o->repeats + r] = (double)(passed[i + 1] - passed[i]);
    if (r >= 0) ns[(long)ep_call_count * o->repeats + r] = (double)(end - begin);
    if (reference && r >= 0) reference[r + 1] = reference_ns(o);
  }
  ep_passes = NULL;
  for (int i = (int)o->first; code == OK && i < ep_call_count; i++) {
    printf("{\"index\":%d,\"name\":\"%s\",\"samples\":[", i, ep_calls[i].name);
    print_samples(ns + (long)i * o->repeats, o->repeats);
    printf("],\"finite\":%s,", ep_call_finite(model, i) ? "true" : "false");
    print_references(reference, o->repeats);
    printf("}\n");
  }
  if (code == OK) {
    printf("{\"whole\":[");
    print_samples(ns + (long)ep_call_count * o->repeats, o->repeats);
    printf("]}\n");
  }
  close_ports();
  free(reference);
  free(passed);
  free(ns);
  return code;
}

/* A network has inputs, or weights of its own; kernels that are only here to be timed have neither. */
static int kernels(ep_model *model, const options *o) {
  return ep_input_count || !ep_synthetic_weights ? in_place(model, o) : alone(model, o);
}

static void print_tensor(const ep_tensor *t) {
  printf("{\"name\":\"%s\",\"dtype\":\"%s\",\"shape\":[", t->name, ep_type_name(t->type));
  for (int i = 0; i < t->ndim; i++) printf("%s%lld", i ? "," : "", (long long)t->shape[i]);
  printf("]}");
}

SMALL static int info(void) {
  ep_info d = ep_describe();
  printf("{\"name\":\"%s\",\"inputs\":[", ep_name);
  for (int i = 0; i < ep_input_count; i++) {
    if (i) printf(",");
    print_tensor(ep_input(i));
  }
  printf("],\"outputs\":[");
  for (int i = 0; i < ep_output_count; i++) {
    if (i) printf(",");
    print_tensor(ep_output(i));
  }
  printf("],\"arena_bytes\":%llu,\"peak_ram_bytes\":%llu,\"weight_bytes\":%llu,\"kernels\":[",
         (unsigned long long)d.arena_bytes, (unsigned long long)d.peak_ram_bytes, (unsigned long long)d.weight_bytes);
  for (int i = 0; i < ep_call_count; i++) printf("%s\"%s\"", i ? "," : "", ep_calls[i].name);
#ifdef EP_COMPRESSED
  printf("],\"compressed\":{\"constants\":%d,\"bytes\":%llu,\"decoded_bytes\":%llu}}\n", ep_code_count,
         (unsigned long long)(ep_weight_bytes - ep_plain_bytes), (unsigned long long)ep_decoded_bytes);
#else
  printf("]}\n");
#endif
  return OK;
}

int main(int argc, char **argv) {
  options o = {.batch = 1, .threads = 1, .warmup = 3, .repeats = 20, .rtol = 1e-4, .atol = 1e-6};
  const char *command = argc > 1 ? argv[1] : "";
  if (strcmp(command, "info") == 0 && argc == 2) return info();
  int (*verb)(ep_model *, const options *) = strcmp(command, "run") == 0       ? run
                                             : strcmp(command, "check") == 0   ? check
                                             : strcmp(command, "bench") == 0   ? bench
                                             : strcmp(command, "kernels") == 0 ? kernels
                                                                               : NULL;
  if (verb == NULL) return fail(USAGE, "use one of: info, run, check, bench, kernels", NULL);
  int code = parse(argc - 2, argv + 2, &o);
  if (code != OK) return code;
  ep_set_weight_span((uint64_t)o.weight_span);
  ep_model *model = ep_open((int)o.threads);
  if (model == NULL) return fail(NOT_OPENED, ep_error(), NULL);
  code = verb(model, &o);
  ep_close(model);
  return fflush(stdout) == 0 ? code : fail(INTERNAL, "cannot write to stdout", NULL);
}
