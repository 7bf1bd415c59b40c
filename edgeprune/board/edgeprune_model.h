/* The C interface of a compiled model: what an application on the board links against. */
#ifndef EDGEPRUNE_MODEL_H
#define EDGEPRUNE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_MAX_DIMS 6

/* Element types of inputs and outputs, in the byte order of the processor. A bool is a byte, 0 or 1. */
typedef enum {
  EP_FLOAT32 = 0,
  EP_FLOAT16,
  EP_FLOAT64,
  EP_INT8,
  EP_INT16,
  EP_INT32,
  EP_INT64,
  EP_UINT8,
  EP_BOOL
} ep_type;

const char *ep_type_name(ep_type type);  /* as NumPy calls it: "float32"; NULL for no type */
size_t ep_type_bytes(ep_type type);      /* of one element; 0 for no type */

/* A tensor as the caller sees it: row-major, of the type that the network itself takes or gives.
 * A camera frame is (N, H, W, C), uint8: what a camera gives, rows first, the channels of a pixel side by side. */
typedef struct {
  const char *name;
  int32_t ndim;
  int64_t shape[EP_MAX_DIMS];
  uint64_t elements;
  ep_type type;
} ep_tensor;

/* Finite values that the data of a network had, widened by a tenth: see docs/BOARD.md. */
typedef struct {
  double low, high;
} ep_range;

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

/* What ep_run returns besides 0: an input holds what the program cannot compute with; anything else failed. */
enum { EP_REFUSED = 1, EP_FAILED = -1 };

/* One inference. inputs[i] points to ep_input(i)->elements values of ep_input(i)->type, outputs[i] to room for
 * ep_output(i)->elements of ep_output(i)->type (any alignment).
 *
 * The program computes in float32. An input is refused if it holds an integer beyond 2^24, or a float64 beyond the
 * range of float32; other float64 are rounded. Results go to the nearest integer (halves to the even one) inside
 * the range of the type, NaN to 0; to the nearest float16, or to infinity; to true unless they are 0.
 *
 * Returns 0, EP_REFUSED or EP_FAILED; the reason is in ep_error(). Not thread-safe on one model. */
int ep_run(ep_model *model, const void *const *inputs, void *const *outputs);

/* The same with floats for every input and output, whatever their types: numbers as the program computes with them.
 * Those for a camera frame go to the nearest of 0 to 255. */
int ep_run_floats(ep_model *model, const float *const *inputs, float *const *outputs);
const char *ep_error(void);

/* What ep_inspect finds: nothing; finite values outside the range of the input; NaN or infinity. */
enum { EP_NORMAL = 0, EP_OUTSIDE = 1, EP_NOT_FINITE = 2 };

/* One anomalous value of an input, the first one that is not finite, else the first one outside; and how many there
 * are of both kinds. */
typedef struct {
  uint64_t element; /* its place: row-major, in ep_input(i)->shape */
  double value;
  uint64_t not_finite, outside;
} ep_anomaly;

/* The range of an input's values, or NULL where no data were known when the model was compiled. */
const ep_range *ep_input_range(int index);

/* Looks through the values of one input, ep_input(index)->elements of ep_input(index)->type, before ep_run computes with
 * them: an output is worth nothing where an input is not finite, and little where it is far outside of what the network
 * was trained on. ep_run itself does not look. Where there is no range, only what is not finite counts; a camera frame has
 * no range, since all its grey levels are what a camera gives.
 *
 * found may be NULL, and is written where something is found. Needs no open model, takes no memory, thread-safe.
 * Returns EP_NORMAL, EP_OUTSIDE, EP_NOT_FINITE (the worse of both), or EP_FAILED for an input that there is not. */
int ep_inspect(int index, const void *values, ep_anomaly *found);

/* The same for what is given to ep_run_floats. */
int ep_inspect_floats(int index, const float *values, ep_anomaly *found);

#ifdef __cplusplus
}
#endif
#endif
