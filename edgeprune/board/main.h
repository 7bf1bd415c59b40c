/* What the sources of the command line share: main.c, which parses and times, and data.c, which reads and writes. */
#ifndef EDGEPRUNE_MAIN_H
#define EDGEPRUNE_MAIN_H

#include <stdio.h>

#include "program.h"

enum { OK = 0, INTERNAL = 1, USAGE = 2, BAD_INPUT = 3, NOT_OPENED = 6, DIFFERENT = 7, ANOMALOUS = 11 };
enum { MAX_PORTS = 16 };

/* What run does with an anomalous sample: guard refuses what is not finite and flags what is outside the range. */
enum { GUARD = 0, REFUSE, FLAG, OFF };

typedef struct {
  const char *inputs[MAX_PORTS], *outputs[MAX_PORTS], *expects[MAX_PORTS];
  int input_count, output_count, expect_count;
  long batch, threads, warmup, repeats, retakes, min_ns, nominal_ns, first, weight_span;
  double rtol, atol;
  int virtual_clock, anomalies;
} options;

/* The values of all inputs or outputs of one sample, and the files they come from or go to. */
typedef struct {
  FILE *files[MAX_PORTS];
  void *data[MAX_PORTS];
  int count;
} ports;

int fail(int code, const char *what, const char *about); /* says so, and returns the code */

/* data.c */
int buffers(ports *p, int count, const ep_tensor *(*tensor)(int));
void release(ports *p);
int run(ep_model *model, const options *o);
int check(ep_model *model, const options *o);

#endif
