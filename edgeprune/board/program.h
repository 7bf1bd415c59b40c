/* What the generated model.c provides to the fixed sources: tables, no code.
 *
 * The static plan is data: calls in order, each with its buffers as (space, offset, elements).
 */
#ifndef EDGEPRUNE_PROGRAM_H
#define EDGEPRUNE_PROGRAM_H

#include <stdint.h>

#include "edgeprune_model.h"

/* ABI of the compiled kernels (tvm-ffi 0.1 and DLPack): only what a CPU kernel reads. */
typedef struct {
  int32_t type_index;
  uint32_t zero_padding;
  union {
    int64_t v_int64;
    void *v_ptr;
  };
} ep_ffi_any;

#define EP_FFI_DLTENSOR 7

typedef struct {
  int32_t device_type, device_id;
} ep_dl_device;

typedef struct {
  uint8_t code, bits;
  uint16_t lanes;
} ep_dl_dtype;

typedef struct {
  void *data;
  ep_dl_device device;
  int32_t ndim;
  ep_dl_dtype dtype;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
} ep_dl_tensor;

typedef int (*ep_kernel)(void *self, ep_ffi_any *args, int32_t nargs, ep_ffi_any *result);

/* What takes no time is to take no room either: it is in every program. */
#define SMALL __attribute__((cold, noinline))

enum { EP_ARENA = 0, EP_WEIGHTS = 1, EP_DECODED = 2 };

typedef struct {
  int32_t space;
  uint64_t offset; /* bytes */
  int64_t elements;
  ep_type type; /* EP_FLOAT32, or EP_UINT8 for a camera frame */
} ep_buffer;

typedef struct {
  const char *name;
  ep_kernel kernel;
  int32_t first_buffer, buffers; /* slice of ep_buffers; the output is last */
  uint64_t virtual_ns;           /* what the call costs on the virtual clock */
} ep_call;

typedef struct {
  uint64_t offset, bytes;    /* of the code, in ep_weights */
  uint64_t decoded_offset;   /* of the values, in what ep_open decodes */
  uint64_t words;
} ep_code;

typedef struct {
  ep_tensor tensor;
  uint64_t offset; /* in the arena */
  ep_type held;    /* what the arena holds: EP_FLOAT32, or EP_UINT8 for a camera frame */
  int32_t ranged;  /* 1: range is known */
  ep_range range;
} ep_port;

/* What a buffer of synthetic weights holds in place of noise: values that decide what its kernel does. */
typedef struct {
  int32_t buffer;
  const uint32_t *values; /* as many as the buffer has elements */
} ep_fixed;

extern const char ep_name[];
extern const ep_call ep_calls[];
extern const int ep_call_count;
extern const ep_buffer ep_buffers[];
extern const int ep_buffer_count;
extern const ep_port ep_inputs[];
extern const int ep_input_count;
extern const ep_port ep_outputs[];
extern const int ep_output_count;
extern const uint64_t ep_arena_bytes;
extern const uint64_t ep_weight_bytes;
extern const int ep_synthetic_weights; /* 1: no weights are linked, fill a buffer with noise */
extern const unsigned char ep_weights[];
extern const ep_fixed ep_fixed_values[];
extern const int ep_fixed_count; /* 0 where weights are linked; where it is more, EP_FIXED is defined */

/* With EP_COMPRESSED alone, where some weights are stored without their zeros: those that are used in place come first in
 * ep_weights, the codes of the others behind them (decode.h). */
extern const uint64_t ep_plain_bytes, ep_decoded_bytes;
extern const ep_code ep_codes[];
extern const int ep_code_count;

/* types.c: values at the edges of the program. ep_take brings those of an input, which are of type `given`, to `held` as
 * the arena holds them; returns 0, or EP_REFUSED with the reason in `why`. ep_give brings a result, which the arena
 * holds as float32, to a type. */
int ep_take(const ep_port *port, ep_type given, const void *values, void *held, char *why, size_t size);
void ep_give(ep_type type, const float *held, void *values, uint64_t elements);
double ep_number(ep_type type, const void *values, uint64_t index); /* one of `values` */
ep_dl_dtype ep_dl_type(ep_type type);

/* Whether kernels run on the cores, whose clock the reference of main.c shows. */
extern const int ep_paced;

/* model.c <-> main.c: single kernels, for the timing mode. On a GPU a call is only begun, and the next may be
 * begun behind it, as in an inference; ep_finish waits for all that were. */
int ep_run_call(ep_model *model, int index);
int ep_finish(ep_model *model);

/* What an inference calls before each of its calls, with the number of that call, and once more behind the last. NULL:
 * nothing. */
extern void (*ep_passes)(ep_model *model, int next);

/* Has threads that fell asleep wait for a kernel awake, as they do for a while after each. */
void ep_wake(void);

/* Synthetic weights only: before ep_open, how many bytes of weights the network around a kernel has;
 * then, before a call, take the next stretch of them. In a network a kernel finds its weights where the
 * caches left them after all other weights went by; called again and again on one copy it would find
 * them in the nearest cache and look faster than it is. */
void ep_set_weight_span(uint64_t bytes);
void ep_next_weights(ep_model *model, int index);
/* Before a kernel is timed: noise in all of them, and its fixed values in every stretch that it will take. */
void ep_fill_weights(ep_model *model, int index);
int ep_call_finite(ep_model *model, int index);
void ep_fill_arena(ep_model *model);

#endif
