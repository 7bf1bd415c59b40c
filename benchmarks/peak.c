/* Multiply-adds a second that this processor can do: CHAINS vectors of BYTES in registers, nothing else. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef float vector __attribute__((vector_size(BYTES)));

enum { ROUNDS = 400000, LANES = BYTES / sizeof(float) };

/* Not static: its instructions are counted under its name (peak.py). */
__attribute__((noinline)) void *chains(void *sink) {
  vector a[CHAINS], b, c;
  for (int i = 0; i < LANES; i++) b[i] = 0.999f, c[i] = 1e-3f;
  for (int k = 0; k < CHAINS; k++) a[k] = c * (float)k;
  for (int r = 0; r < ROUNDS; r++) {
#pragma clang loop unroll(full)
    for (int k = 0; k < CHAINS; k++) a[k] = a[k] * b + c;
    __asm__ volatile("" ::: "memory");
  }
  for (int k = 1; k < CHAINS; k++) a[0] += a[k];
  *(volatile float *)sink = a[0][0];
  return NULL;
}

int main(int argc, char **argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1;
  double best = 0;
  for (int attempt = 0; attempt < 40; attempt++) {
    pthread_t thread[64];
    float sink[64];
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int t = 1; t < threads; t++) pthread_create(&thread[t], NULL, chains, &sink[t]);
    chains(&sink[0]);
    for (int t = 1; t < threads; t++) pthread_join(thread[t], NULL);
    clock_gettime(CLOCK_MONOTONIC, &to);
    double s = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    double gflops = 2e-9 * LANES * CHAINS * ROUNDS * threads / s;
    if (gflops > best) best = gflops;
  }
  printf("%.1f\n", best);
  return 0;
}
