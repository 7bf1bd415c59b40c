/* tiny: written by edgeprune. Tables only. */
#include "program.h"

int __tvm_ffi_ep_a(void *, ep_ffi_any *, int32_t, ep_ffi_any *);
int __tvm_ffi_ep_b(void *, ep_ffi_any *, int32_t, ep_ffi_any *);

const char ep_name[] = "tiny";
const ep_buffer ep_buffers[] = {
  {EP_ARENA, 0u, 12, EP_FLOAT32},
  {EP_ARENA, 64u, 32, EP_FLOAT32},
  {EP_ARENA, 64u, 32, EP_FLOAT32},
  {EP_WEIGHTS, 0u, 24, EP_FLOAT32},
  {EP_WEIGHTS, 128u, 8, EP_FLOAT32},
  {EP_ARENA, 192u, 32, EP_FLOAT32},
};
const int ep_buffer_count = 6;
const ep_call ep_calls[] = {
  {"x.blocked", __tvm_ffi_ep_b, 0, 2, 506u},
  {"conv", __tvm_ffi_ep_a, 2, 4, 520u},
};
const int ep_call_count = 2;
const ep_port ep_inputs[] = {
  {{"x", 4, {1, 3, 2, 2}, 12u, EP_FLOAT32}, 0u, EP_FLOAT32},
};
const int ep_input_count = 1;
const ep_port ep_outputs[] = {
  {{"y", 4, {1, 5, 2, 2}, 20u, EP_FLOAT32}, 192u, EP_FLOAT32},
  {{"row", 2, {1, 20}, 20u, EP_FLOAT32}, 192u, EP_FLOAT32},
};
const int ep_output_count = 2;
const ep_fixed ep_fixed_values[] = {
  {0, 0},
};
const int ep_fixed_count = 0;
const uint64_t ep_arena_bytes = 320u;
const uint64_t ep_weight_bytes = 160u;
const int ep_synthetic_weights = 0;
