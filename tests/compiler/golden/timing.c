/* timing: written by edgeprune. Tables only. */
#include "program.h"

int __tvm_ffi_ep_0(void *, ep_ffi_any *, int32_t, ep_ffi_any *);
int __tvm_ffi_ep_1(void *, ep_ffi_any *, int32_t, ep_ffi_any *);
int __tvm_ffi_ep_2(void *, ep_ffi_any *, int32_t, ep_ffi_any *);

const char ep_name[] = "timing";
const ep_buffer ep_buffers[] = {
  {EP_ARENA, 0u, 12, EP_FLOAT32},
  {EP_ARENA, 64u, 32, EP_FLOAT32},
  {EP_ARENA, 0u, 32, EP_FLOAT32},
  {EP_WEIGHTS, 0u, 24, EP_FLOAT32},
  {EP_WEIGHTS, 128u, 8, EP_FLOAT32},
  {EP_ARENA, 128u, 32, EP_FLOAT32},
  {EP_ARENA, 0u, 32, EP_FLOAT32},
  {EP_ARENA, 128u, 32, EP_FLOAT32},
};
const int ep_buffer_count = 8;
const ep_call ep_calls[] = {
  {"k0", __tvm_ffi_ep_0, 0, 2, 506u},
  {"k1", __tvm_ffi_ep_1, 2, 4, 520u},
  {"k2", __tvm_ffi_ep_2, 6, 2, 506u},
};
const int ep_call_count = 3;
const ep_port ep_inputs[] = {
  {{"", 0, {0}, 0u, EP_FLOAT32}, 0u, EP_FLOAT32},
};
const int ep_input_count = 0;
const ep_port ep_outputs[] = {
  {{"", 0, {0}, 0u, EP_FLOAT32}, 0u, EP_FLOAT32},
};
const int ep_output_count = 0;
const ep_fixed ep_fixed_values[] = {
  {0, 0},
};
const int ep_fixed_count = 0;
const uint64_t ep_arena_bytes = 256u;
const uint64_t ep_weight_bytes = 192u;
const int ep_synthetic_weights = 1;
const unsigned char ep_weights[1] = {0};
