/* The C interface of a compiled model: what an application on the board links against. */
#ifndef EDGEPRUNE_MODEL_H
#define EDGEPRUNE_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_MAX_DIMS 6

/* A logical fp32 tensor, row-major, as the caller sees it. */
typedef struct {
  const char *name;
  int32_t ndim;
  int64_t shape[EP_MAX_DIMS];
  uint64_t elements;
} ep_tensor;

/* Bytes. peak_ram is everything ep_open allocates, thread stacks aside; weights stay in the program file. */
typedef struct {
  uint64_t arena_bytes;
  uint64_t peak_ram_bytes;
  uint64_t weight_bytes;
  int32_t inputs, outputs, kernels;
} ep_info;

typedef struct ep_model ep_model;

/* Opens the model linked into this program. threads >= 1; the calling thread is one of them.
 * Returns NULL when memory or threads cannot be had. One model may be open at a time. */
ep_model *ep_open(int threads);
void ep_close(ep_model *model);

ep_info ep_describe(void);
uint64_t ep_allocated(void); /* bytes that were really taken since ep_open: equal to peak_ram_bytes */
const ep_tensor *ep_input(int index);
const ep_tensor *ep_output(int index);

/* One inference. inputs[i] and outputs[i] point to ep_input(i)->elements floats (any alignment).
 * Returns 0, or non-zero with the reason in ep_error(). Not thread-safe on one model. */
int ep_run(ep_model *model, const float *const *inputs, float *const *outputs);
const char *ep_error(void);

#ifdef __cplusplus
}
#endif
#endif
