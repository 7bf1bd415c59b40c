/* What the generated launches.c and cuda.c share: kernels in a cubin, started through the driver. */
#ifndef EDGEPRUNE_CUDA_H
#define EDGEPRUNE_CUDA_H

#include "program.h"

typedef struct {
  const char *kernel; /* its name in the cubin */
  unsigned blocks, threads;
  int parameters;
  const int *order; /* parameter i of the kernel is buffer order[i] of the call */
} ep_launch;

extern const ep_launch ep_launches[];
extern const int ep_launch_count;
extern const char ep_gpu[]; /* sm_87 */
extern const unsigned char ep_cubin[];

/* Starts launch `index`; the tensors' data are addresses on the GPU. Does not wait. */
int ep_start(int index, ep_ffi_any *args, int32_t nargs);

#endif
