/* What the objects of kernels, the generated launches.c and cuda.c share: machine code of a GPU, and how it is started. */
#ifndef EDGEPRUNE_CUDA_H
#define EDGEPRUNE_CUDA_H

#include "program.h"

typedef struct {
  const char *kernel; /* its name in the cubin */
  const unsigned char *cubin;
  unsigned blocks, threads;
  int parameters;
  const int *order;        /* parameter i of the kernel is buffer order[i] of the call */
  void *module, *function; /* of the driver, while a model is open */
} ep_launch;

extern ep_launch *const ep_launches[];
extern const int ep_launch_count;
extern const char ep_gpu[]; /* sm_87 */

/* Starts a kernel; the tensors' data are addresses on the GPU. Does not wait. */
int ep_start(const ep_launch *launch, ep_ffi_any *args, int32_t nargs);

#endif
