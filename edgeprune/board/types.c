/* Element types: names, sizes, and how values come into the arena's float32 and out of it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "program.h"

#define WHOLE (1 << 24) /* float32 holds every whole number up to it */

static const struct {
  const char *name;
  size_t bytes;
} types[] = {
    [EP_FLOAT32] = {"float32", 4}, [EP_FLOAT16] = {"float16", 2}, [EP_FLOAT64] = {"float64", 8},
    [EP_INT8] = {"int8", 1},       [EP_INT16] = {"int16", 2},     [EP_INT32] = {"int32", 4},
    [EP_INT64] = {"int64", 8},     [EP_UINT8] = {"uint8", 1},     [EP_BOOL] = {"bool", 1},
};

static int known(ep_type type) { return (unsigned)type < sizeof types / sizeof *types; }

const char *ep_type_name(ep_type type) { return known(type) ? types[type].name : NULL; }

size_t ep_type_bytes(ep_type type) { return known(type) ? types[type].bytes : 0; }

ep_dl_dtype ep_dl_type(ep_type type) {
  ep_dl_dtype number = {2, 32, 1}, byte = {1, 8, 1}; /* kDLFloat, kDLUInt */
  return type == EP_UINT8 ? byte : number;
}

/* C has no float16. */
static float of_half(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu, bits;
  float value;
  if (exponent == 0) {
    value = (float)fraction / 16777216.0f;
    return sign ? -value : value;
  }
  bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static uint16_t to_half(float value) {
  uint32_t bits, sign, size;
  memcpy(&bits, &value, sizeof bits);
  sign = bits >> 16 & 0x8000u;
  size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);  /* NaN */
  if (size >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* from 65520 on: infinity */
  if (size < 0x38800000u) return (uint16_t)(sign | (uint32_t)rintf(fabsf(value) * 16777216.0f)); /* subnormal */
  return (uint16_t)(sign | (size + 0xfffu + (size >> 13 & 1u) - 0x38000000u) >> 13);
}

/* Values need not be aligned. Each ends at the first that float32 does not hold, and returns its index. */
#define TAKE(type, refused, number)                          \
  static uint64_t take_##type(float *to, const unsigned char *from, uint64_t n) { \
    for (uint64_t i = 0; i < n; i++) {                       \
      type v;                                                \
      memcpy(&v, from + i * sizeof v, sizeof v);             \
      if (refused) return i;                                 \
      to[i] = (number);                                      \
    }                                                        \
    return n;                                                \
  }

typedef uint16_t half;
typedef uint8_t truth;
TAKE(half, 0, of_half(v))
TAKE(double, isfinite(v) && !isfinite((float)v), (float)v)
TAKE(int8_t, 0, (float)v)
TAKE(int16_t, 0, (float)v)
TAKE(int32_t, v > WHOLE || v < -WHOLE, (float)v)
TAKE(int64_t, v > WHOLE || v < -WHOLE, (float)v)
TAKE(uint8_t, 0, (float)v)
TAKE(truth, 0, v != 0 ? 1.0f : 0.0f)

#define GIVE(type, number)                                                       \
  static void give_##type(unsigned char *to, const float *from, uint64_t n) {    \
    for (uint64_t i = 0; i < n; i++) {                                           \
      float f = from[i];                                                         \
      type v = (number);                                                         \
      memcpy(to + i * sizeof v, &v, sizeof v);                                   \
    }                                                                            \
  }
/* The largest one of 32 or 64 bits is no float: compared with is the next power of two, which is one. */
#define NEAREST(low, high) \
  (isnan(f) ? 0 : rintf(f) <= (float)(low) ? (low) : rintf(f) >= (float)(high) ? (high) : rintf(f))

GIVE(half, to_half(f))
GIVE(double, f)
GIVE(int8_t, (int8_t)NEAREST(INT8_MIN, INT8_MAX))
GIVE(int16_t, (int16_t)NEAREST(INT16_MIN, INT16_MAX))
GIVE(uint8_t, (uint8_t)NEAREST(0, UINT8_MAX))
GIVE(truth, f != 0)
GIVE(int32_t, isnan(f) ? 0 : rintf(f) <= -0x1p31f ? INT32_MIN : rintf(f) >= 0x1p31f ? INT32_MAX : (int32_t)rintf(f))
GIVE(int64_t, isnan(f) ? 0 : rintf(f) <= -0x1p63f ? INT64_MIN : rintf(f) >= 0x1p63f ? INT64_MAX : (int64_t)rintf(f))

double ep_number(ep_type type, const void *values, uint64_t index) {
  const unsigned char *at = (const unsigned char *)values + index * ep_type_bytes(type);
  float f = 0;
  double d;
  int32_t i;
  int64_t l;
  switch (type) {
  case EP_FLOAT64: return memcpy(&d, at, sizeof d), d;
  case EP_INT32: return memcpy(&i, at, sizeof i), i;
  case EP_INT64: return memcpy(&l, at, sizeof l), (double)l;
  case EP_FLOAT32: return memcpy(&f, at, sizeof f), f;
  case EP_FLOAT16: take_half(&f, at, 1); break;
  case EP_INT8: take_int8_t(&f, at, 1); break;
  case EP_INT16: take_int16_t(&f, at, 1); break;
  case EP_UINT8: take_uint8_t(&f, at, 1); break;
  case EP_BOOL: take_truth(&f, at, 1); break;
  }
  return f;
}

int ep_take(const ep_port *port, ep_type given, const void *values, void *held, char *why, size_t size) {
  uint64_t n = port->tensor.elements, end = n;
  if (given == port->held) {
    memcpy(held, values, n * ep_type_bytes(given));
    return 0;
  }
  if (port->held == EP_UINT8) { /* floats for a frame */
    give_uint8_t(held, values, n);
    return 0;
  }
  switch (given) {
  case EP_FLOAT16: end = take_half(held, values, n); break;
  case EP_FLOAT64: end = take_double(held, values, n); break;
  case EP_INT8: end = take_int8_t(held, values, n); break;
  case EP_INT16: end = take_int16_t(held, values, n); break;
  case EP_INT32: end = take_int32_t(held, values, n); break;
  case EP_INT64: end = take_int64_t(held, values, n); break;
  case EP_UINT8: end = take_uint8_t(held, values, n); break;
  case EP_BOOL: end = take_truth(held, values, n); break;
  case EP_FLOAT32: break; /* held as it is */
  }
  if (end == n) return 0;
  const char *what = given == EP_FLOAT64 ? "float32, in which the program computes, ends before"
                                         : "the program computes with whole numbers up to 16777216";
  snprintf(why, size, "input %s holds %.15g (element %llu): %s", port->tensor.name, ep_number(given, values, end),
           (unsigned long long)end, what);
  return EP_REFUSED;
}

void ep_give(ep_type type, const float *held, void *values, uint64_t n) {
  switch (type) {
  case EP_FLOAT32: memcpy(values, held, n * sizeof *held); break;
  case EP_FLOAT16: give_half(values, held, n); break;
  case EP_FLOAT64: give_double(values, held, n); break;
  case EP_INT8: give_int8_t(values, held, n); break;
  case EP_INT16: give_int16_t(values, held, n); break;
  case EP_INT32: give_int32_t(values, held, n); break;
  case EP_INT64: give_int64_t(values, held, n); break;
  case EP_UINT8: give_uint8_t(values, held, n); break;
  case EP_BOOL: give_truth(values, held, n); break;
  }
}
