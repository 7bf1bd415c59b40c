/* Values that a network was not made for: NaN and infinity, and what lies outside the range of its data. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "program.h"

const ep_range *ep_input_range(int i) {
  return i >= 0 && i < ep_input_count && ep_inputs[i].ranged ? &ep_inputs[i].range : NULL;
}

/* Not twice in a program. */
__attribute__((noinline)) static int inspect(int index, ep_type given, const void *values, ep_anomaly *found) {
  if (index < 0 || index >= ep_input_count) return EP_FAILED;
  const ep_range *range = ep_input_range(index);
  int real = given == EP_FLOAT32 || given == EP_FLOAT16 || given == EP_FLOAT64;
  if (!real && range == NULL) return EP_NORMAL; /* every value is one of its type */
  double low = range ? range->low : -DBL_MAX, high = range ? range->high : DBL_MAX;
  ep_anomaly first = {0, 0, 0, 0};
  for (uint64_t i = 0; i < ep_inputs[index].tensor.elements; i++) {
    double value;
    if (given == EP_FLOAT32) {
      float f;
      memcpy(&f, (const unsigned char *)values + i * sizeof f, sizeof f);
      value = f;
    } else {
      value = ep_number(given, values, i);
    }
    if (value >= low && value <= high) continue; /* false for NaN */
    int finite = isfinite(value);
    if (finite ? first.outside + first.not_finite == 0 : first.not_finite == 0) {
      first.element = i;
      first.value = value;
    }
    if (finite) first.outside++;
    else first.not_finite++;
  }
  if (first.outside + first.not_finite == 0) return EP_NORMAL;
  if (found) *found = first;
  return first.not_finite ? EP_NOT_FINITE : EP_OUTSIDE;
}

int ep_inspect(int index, const void *values, ep_anomaly *found) {
  return inspect(index, index >= 0 && index < ep_input_count ? ep_inputs[index].tensor.type : EP_FLOAT32, values, found);
}

int ep_inspect_floats(int index, const float *values, ep_anomaly *found) {
  return inspect(index, EP_FLOAT32, values, found);
}
