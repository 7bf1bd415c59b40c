/* runtime.c for a GPU: the same static plan, arena and weights in the GPU's memory, kernels from cubins.
 *
 * Only the driver is used (libcuda.so.1, part of every Jetson's system), opened when the model is: no CUDA
 * runtime library of some version has to be on the board. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "decode.h"

#define ALIGNMENT 64
#define MAX_BUFFERS 64

static char error_text[512];

const char *ep_error(void) { return error_text; }

/* ---- the driver ---------------------------------------------------------------------------- */

typedef unsigned long long address;
typedef void *handle;

static struct {
  void *library;
  int (*Init)(unsigned);
  int (*DeviceGet)(int *, int);
  int (*DevicePrimaryCtxRetain)(handle *, int);
  int (*DevicePrimaryCtxRelease)(int);
  int (*CtxSetCurrent)(handle);
  int (*CtxSynchronize)(void);
  int (*ModuleLoadData)(handle *, const void *);
  int (*ModuleUnload)(handle);
  int (*ModuleGetFunction)(handle *, handle, const char *);
  int (*MemAlloc)(address *, size_t);
  int (*MemFree)(address);
  int (*MemcpyHtoD)(address, const void *, size_t);
  int (*MemcpyDtoH)(void *, address, size_t);
  int (*LaunchKernel)(handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **);
  int (*GetErrorName)(int, const char **);
} cu;

static const struct {
  const char *name;
  void *place;
} symbols[] = {
    {"cuInit", &cu.Init},
    {"cuDeviceGet", &cu.DeviceGet},
    {"cuDevicePrimaryCtxRetain", &cu.DevicePrimaryCtxRetain},
    {"cuDevicePrimaryCtxRelease", &cu.DevicePrimaryCtxRelease},
    {"cuCtxSetCurrent", &cu.CtxSetCurrent},
    {"cuCtxSynchronize", &cu.CtxSynchronize},
    {"cuModuleLoadData", &cu.ModuleLoadData},
    {"cuModuleUnload", &cu.ModuleUnload},
    {"cuModuleGetFunction", &cu.ModuleGetFunction},
    {"cuMemAlloc_v2", &cu.MemAlloc},
    {"cuMemFree_v2", &cu.MemFree},
    {"cuMemcpyHtoD_v2", &cu.MemcpyHtoD},
    {"cuMemcpyDtoH_v2", &cu.MemcpyDtoH},
    {"cuLaunchKernel", &cu.LaunchKernel},
    {"cuGetErrorName", &cu.GetErrorName},
};

static int open_driver(void) {
  if (cu.library != NULL) return 0;
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    snprintf(error_text, sizeof error_text, "no NVIDIA driver: %.400s", dlerror());
    return -1;
  }
  for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
    void *found = dlsym(library, symbols[i].name);
    if (found == NULL) {
      snprintf(error_text, sizeof error_text, "the NVIDIA driver has no %s", symbols[i].name);
      dlclose(library);
      return -1;
    }
    memcpy(symbols[i].place, &found, sizeof found);
  }
  cu.library = library;
  return 0;
}

/* 0 if the driver's call went well; else says which one did not. */
static int failed(int code, const char *what) {
  if (code == 0) return 0;
  const char *name = NULL;
  if (cu.GetErrorName(code, &name) != 0 || name == NULL) name = "unknown error";
  snprintf(error_text, sizeof error_text, "%s: %s (%d)", what, name, code);
  return -1;
}

/* ---- the model --------------------------------------------------------------------------- */

static uint64_t weight_span, allocated;

struct ep_model {
  int device, retained;
  handle context;
  address arena, weights;
  uint64_t stretch;
  void *staging; /* values as the GPU holds them, where the caller's are of another type */
  ep_dl_tensor *tensors;
  int64_t *shapes;
};

static uint64_t round_up(uint64_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static uint64_t table_bytes(void) {
  return round_up(sizeof(struct ep_model)) + (uint64_t)ep_buffer_count * (sizeof(ep_dl_tensor) + sizeof(int64_t));
}

/* Weights that are copied as they lie in the program. */
static uint64_t plain_bytes(void) {
#ifdef EP_COMPRESSED
  return ep_plain_bytes;
#else
  return ep_weight_bytes;
#endif
}

static uint64_t held_weights(void) {
#ifdef EP_COMPRESSED
  uint64_t bytes = round_up(ep_plain_bytes) + ep_decoded_bytes;
#else
  uint64_t bytes = ep_synthetic_weights && weight_span > ep_weight_bytes ? weight_span : ep_weight_bytes;
#endif
  return round_up(bytes ? bytes : ALIGNMENT);
}

static uint64_t held_arena(void) { return round_up(ep_arena_bytes ? ep_arena_bytes : ALIGNMENT); }

static uint64_t staging_bytes(void) {
  uint64_t most = 0;
  for (int i = 0; i < ep_input_count + ep_output_count; i++) {
    const ep_port *port = i < ep_input_count ? &ep_inputs[i] : &ep_outputs[i - ep_input_count];
    uint64_t bytes = port->tensor.elements * sizeof(float);
    if (port->tensor.type != EP_FLOAT32 && bytes > most) most = bytes;
  }
  return round_up(most);
}

void ep_set_weight_span(uint64_t bytes) { weight_span = bytes; }

ep_info ep_describe(void) {
  ep_info info = {ep_arena_bytes, held_arena() + held_weights() + table_bytes() + staging_bytes(), ep_weight_bytes,
                  ep_input_count, ep_output_count, ep_call_count};
  return info;
}

const ep_tensor *ep_input(int i) { return i >= 0 && i < ep_input_count ? &ep_inputs[i].tensor : NULL; }
const ep_tensor *ep_output(int i) { return i >= 0 && i < ep_output_count ? &ep_outputs[i].tensor : NULL; }

uint64_t ep_allocated(void) { return allocated; }

const int ep_paced = 0;
void (*ep_passes)(ep_model *model, int next);

static float noise(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return (float)(*state >> 8) * (2.0f / 16777216.0f) - 1.0f;
}

static int fill(address to, uint64_t bytes, float scale, uint32_t state) {
  float *values = malloc(bytes ? bytes : 1);
  if (values == NULL) return -1;
  for (uint64_t i = 0; i < bytes / sizeof(float); i++) values[i] = scale * noise(&state);
  int code = cu.MemcpyHtoD(to, values, bytes);
  free(values);
  return failed(code, "filling memory");
}

void ep_fill_arena(ep_model *model) { fill(model->arena, ep_arena_bytes, 1.0f, 1); }

static int take(address *place, uint64_t bytes) {
  if (failed(cu.MemAlloc(place, bytes), "allocating memory of the GPU") != 0) return -1;
  allocated += bytes;
  return 0;
}

#ifdef EP_COMPRESSED
/* A part at a time, so that nothing of their size is taken beside the GPU's memory. */
static int decode(address to, const ep_code *code) {
  uint32_t part[8 * EP_DECODE_STEP];
  const uint64_t most = sizeof part / sizeof *part;
  ep_decoder d;
  if (ep_decode_begin(&d, ep_weights + code->offset, code->bytes, code->words) != 0) return -1;
  for (uint64_t at = 0; at < code->words; at += most) {
    uint64_t count = code->words - at < most ? code->words - at : most;
    memset(part, 0, sizeof part);
    if (ep_decode_next(&d, part, count) != 0) return -1;
    if (failed(cu.MemcpyHtoD(to + at * sizeof *part, part, count * sizeof *part), "copying weights") != 0) return 1;
  }
  return 0;
}
#endif

static int prepare(ep_model *model) {
  if (open_driver() != 0 || failed(cu.Init(0), "starting the NVIDIA driver") != 0) return -1;
  if (failed(cu.DeviceGet(&model->device, 0), "finding the GPU") != 0) return -1;
  if (failed(cu.DevicePrimaryCtxRetain(&model->context, model->device), "opening the GPU") != 0) return -1;
  model->retained = 1;
  if (failed(cu.CtxSetCurrent(model->context), "using the GPU") != 0) return -1;
  char what[64];
  snprintf(what, sizeof what, "loading kernels for %.16s", ep_gpu);
  for (int i = 0; i < ep_launch_count; i++) {
    ep_launch *launch = ep_launches[i];
    if (failed(cu.ModuleLoadData(&launch->module, launch->cubin), what) != 0) return -1;
    if (failed(cu.ModuleGetFunction(&launch->function, launch->module, launch->kernel), launch->kernel) != 0) return -1;
  }
  if (take(&model->arena, held_arena()) != 0 || take(&model->weights, held_weights()) != 0) return -1;
  if (ep_synthetic_weights) return fill(model->weights, held_weights(), 0.1f, 2);
#ifdef EP_COMPRESSED
  for (int i = 0; i < ep_code_count; i++) {
    int code = decode(model->weights + round_up(ep_plain_bytes) + ep_codes[i].decoded_offset, &ep_codes[i]);
    if (code < 0) snprintf(error_text, sizeof error_text, "the compressed weights are damaged (number %d)", i);
    if (code != 0) return -1;
  }
#endif
  return plain_bytes() ? failed(cu.MemcpyHtoD(model->weights, ep_weights, plain_bytes()), "copying weights") : 0;
}

ep_model *ep_open(int threads) {
  (void)threads; /* one thread of the processor feeds the GPU */
  allocated = 0;
  ep_model *model = calloc(1, table_bytes());
  if (model == NULL) {
    snprintf(error_text, sizeof error_text, "cannot allocate %llu bytes", (unsigned long long)table_bytes());
    return NULL;
  }
  allocated += table_bytes();
  if (staging_bytes() && (model->staging = malloc(staging_bytes())) == NULL) {
    snprintf(error_text, sizeof error_text, "cannot allocate %llu bytes", (unsigned long long)staging_bytes());
    free(model);
    return NULL;
  }
  allocated += staging_bytes();
  model->tensors = (ep_dl_tensor *)((unsigned char *)model + round_up(sizeof *model));
  model->shapes = (int64_t *)(model->tensors + ep_buffer_count);
  if (prepare(model) != 0) {
    ep_close(model);
    return NULL;
  }
  for (int i = 0; i < ep_buffer_count; i++) {
    const ep_buffer *b = &ep_buffers[i];
    ep_dl_tensor *t = &model->tensors[i];
    model->shapes[i] = b->elements;
    address base = b->space == EP_ARENA ? model->arena : model->weights;
#ifdef EP_COMPRESSED
    if (b->space == EP_DECODED) base += round_up(ep_plain_bytes);
#endif
    t->data = (void *)(uintptr_t)(base + b->offset);
    t->device.device_type = 2; /* kDLCUDA */
    t->ndim = 1;
    t->dtype = ep_dl_type(b->type);
    t->shape = &model->shapes[i];
  }
  return model;
}

void ep_close(ep_model *model) {
  if (model == NULL) return;
  if (model->weights) cu.MemFree(model->weights);
  if (model->arena) cu.MemFree(model->arena);
  for (int i = 0; i < ep_launch_count; i++) {
    if (ep_launches[i]->module) cu.ModuleUnload(ep_launches[i]->module);
    ep_launches[i]->module = ep_launches[i]->function = NULL;
  }
  if (model->retained) cu.DevicePrimaryCtxRelease(model->device);
  free(model->staging);
  free(model);
}

int ep_start(const ep_launch *launch, ep_ffi_any *args, int32_t nargs) {
  address addresses[MAX_BUFFERS];
  void *parameters[MAX_BUFFERS];
  if (nargs > MAX_BUFFERS || launch->parameters > nargs) {
    snprintf(error_text, sizeof error_text, "%d buffers, at most %d", nargs, MAX_BUFFERS);
    return -1;
  }
  for (int i = 0; i < launch->parameters; i++) {
    addresses[i] = (address)(uintptr_t)((ep_dl_tensor *)args[launch->order[i]].v_ptr)->data;
    parameters[i] = &addresses[i];
  }
  return failed(cu.LaunchKernel(launch->function, launch->blocks, 1, 1, launch->threads, 1, 1, 0, NULL, parameters, NULL),
                "starting it");
}

static int start_call(ep_model *model, int index) {
  const ep_call *call = &ep_calls[index];
  ep_ffi_any args[MAX_BUFFERS], result = {0, 0, {0}};
  if (call->buffers > MAX_BUFFERS) {
    snprintf(error_text, sizeof error_text, "%d buffers, at most %d", call->buffers, MAX_BUFFERS);
    return -1;
  }
  for (int i = 0; i < call->buffers; i++) {
    args[i].type_index = EP_FFI_DLTENSOR;
    args[i].zero_padding = 0;
    args[i].v_ptr = &model->tensors[call->first_buffer + i];
  }
  return call->kernel(NULL, args, call->buffers, &result);
}

int ep_run_call(ep_model *model, int index) { return start_call(model, index); }

int ep_finish(ep_model *model) {
  (void)model;
  return failed(cu.CtxSynchronize(), "running it");
}

void ep_wake(void) {} /* no threads wait for a kernel here */

void ep_fill_weights(ep_model *model, int index) {
  (void)model, (void)index; /* kernels of a GPU have no fixed values */
}

void ep_next_weights(ep_model *model, int index) {
  const ep_call *call = &ep_calls[index];
  uint64_t end = 0;
  for (int i = call->first_buffer; i < call->first_buffer + call->buffers; i++)
    if (ep_buffers[i].space == EP_WEIGHTS) {
      uint64_t last = ep_buffers[i].offset + (uint64_t)ep_buffers[i].elements * sizeof(float);
      if (last > end) end = last;
    }
  if (end == 0) return;
  if (model->stretch + end > held_weights()) model->stretch = 0;
  for (int i = call->first_buffer; i < call->first_buffer + call->buffers; i++)
    if (ep_buffers[i].space == EP_WEIGHTS)
      model->tensors[i].data = (void *)(uintptr_t)(model->weights + model->stretch + ep_buffers[i].offset);
  model->stretch += round_up(end);
}

int ep_call_finite(ep_model *model, int index) {
  const ep_call *call = &ep_calls[index];
  const ep_dl_tensor *out = &model->tensors[call->first_buffer + call->buffers - 1];
  uint64_t bytes = (uint64_t)out->shape[0] * sizeof(uint32_t);
  uint32_t *bits = malloc(bytes ? bytes : 1);
  int finite = bits != NULL && failed(cu.MemcpyDtoH(bits, (address)(uintptr_t)out->data, bytes), "reading a result") == 0;
  for (int64_t i = 0; finite && i < out->shape[0]; i++) finite = (bits[i] & 0x7f800000u) != 0x7f800000u;
  free(bits);
  return finite;
}

/* Values of another type than the GPU holds go through the staging buffer, others straight. */
static int copy_inputs(ep_model *model, int floats, const void *const *inputs) {
  for (int i = 0; i < ep_input_count; i++) {
    const ep_port *port = &ep_inputs[i];
    ep_type given = floats ? EP_FLOAT32 : port->tensor.type;
    const void *from = inputs[i];
    if (given != port->held) {
      int code = ep_take(port, given, from, model->staging, error_text, sizeof error_text);
      if (code != 0) return code;
      from = model->staging;
    }
    uint64_t bytes = port->tensor.elements * ep_type_bytes(port->held);
    if (failed(cu.MemcpyHtoD(model->arena + port->offset, from, bytes), "copying an input") != 0) return EP_FAILED;
  }
  return 0;
}

static int copy_outputs(ep_model *model, int floats, void *const *outputs) {
  for (int i = 0; i < ep_output_count; i++) {
    const ep_port *port = &ep_outputs[i];
    int straight = floats || port->tensor.type == EP_FLOAT32;
    void *to = straight ? outputs[i] : model->staging;
    uint64_t bytes = port->tensor.elements * sizeof(float);
    if (failed(cu.MemcpyDtoH(to, model->arena + port->offset, bytes), "copying an output") != 0) return EP_FAILED;
    if (!straight) ep_give(port->tensor.type, model->staging, outputs[i], port->tensor.elements);
  }
  return 0;
}

static int infer(ep_model *model, int floats, const void *const *inputs, void *const *outputs) {
  /* A program may have another context in use between two inferences. */
  if (failed(cu.CtxSetCurrent(model->context), "using the GPU") != 0) return EP_FAILED;
  int code = copy_inputs(model, floats, inputs);
  if (code != 0) return code;
  for (int i = 0; i < ep_call_count; i++) {
    if (ep_passes) ep_passes(model, i);
    if (start_call(model, i) != 0) {
      char reason[sizeof error_text];
      memcpy(reason, error_text, sizeof reason);
      snprintf(error_text, sizeof error_text, "kernel %s: %.400s", ep_calls[i].name, reason);
      return EP_FAILED;
    }
  }
  if (failed(cu.CtxSynchronize(), "running the kernels") != 0) return EP_FAILED;
  if (ep_passes) ep_passes(model, ep_call_count);
  return copy_outputs(model, floats, outputs);
}

int ep_run(ep_model *model, const void *const *inputs, void *const *outputs) { return infer(model, 0, inputs, outputs); }

int ep_run_floats(ep_model *model, const float *const *inputs, float *const *outputs) {
  return infer(model, 1, (const void *const *)inputs, (void *const *)outputs);
}
