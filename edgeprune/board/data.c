/* The commands of the native program that read and write data: run and check (docs/BOARD.md). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "main.h"

/* ---- files ------------------------------------------------------------------------------------ */

static uint64_t bytes_of(const ep_tensor *tensor) { return tensor->elements * ep_type_bytes(tensor->type); }

/* Opens a file of exactly batch samples of a tensor. */
SMALL static FILE *open_samples(const char *path, const ep_tensor *tensor, long batch) {
  FILE *f = fopen(path, "rb");
  if (f == NULL) return NULL;
  if (fseek(f, 0, SEEK_END) != 0 || ftell(f) != (long)bytes_of(tensor) * batch ||
      fseek(f, 0, SEEK_SET) != 0) {
    fclose(f);
    return NULL;
  }
  return f;
}

SMALL void release(ports *p) {
  for (int i = 0; i < p->count; i++) {
    if (p->files[i]) fclose(p->files[i]);
    free(p->data[i]);
  }
}

SMALL int buffers(ports *p, int count, const ep_tensor *(*tensor)(int)) {
  p->count = count;
  for (int i = 0; i < count; i++)
    if ((p->data[i] = malloc(bytes_of(tensor(i)))) == NULL) return fail(INTERNAL, "out of memory", NULL);
  return OK;
}

SMALL static int open_inputs(ports *p, const options *o) {
  if (o->input_count != ep_input_count) return fail(USAGE, "one --input for each input is needed", NULL);
  int code = buffers(p, ep_input_count, ep_input);
  for (int i = 0; code == OK && i < ep_input_count; i++)
    if ((p->files[i] = open_samples(o->inputs[i], ep_input(i), o->batch)) == NULL)
      code = fail(BAD_INPUT, "missing, or not the size of the batch", o->inputs[i]);
  return code;
}

SMALL static int read_sample(ports *p, const ep_tensor *(*tensor)(int)) {
  for (int i = 0; i < p->count; i++)
    if (fread(p->data[i], 1, bytes_of(tensor(i)), p->files[i]) != bytes_of(tensor(i))) return 0;
  return 1;
}

SMALL static int infer(ep_model *model, const ports *in, const ports *out) {
  int code = ep_run(model, (const void *const *)in->data, out->data);
  return code == 0 ? OK : fail(code == EP_REFUSED ? BAD_INPUT : INTERNAL, ep_error(), NULL);
}

/* ---- anomalies ---------------------------------------------------------------------------------- */

/* A line on stdout, and words on stderr if the sample is refused. */
SMALL static void tell(long sample, int input, const ep_anomaly *a, int refused) {
  char value[32], place[EP_MAX_DIMS * 21 + 1] = "", bounds[64] = "null";
  const ep_tensor *tensor = ep_input(input);
  const ep_range *range = ep_input_range(input);
  const char *quote = isfinite(a->value) ? "" : "\""; /* JSON knows no NaN and no infinity */
  uint64_t below = tensor->elements, rest = a->element;
  size_t used = 0;
  for (int i = 0; i < tensor->ndim; i++, rest %= below) {
    below /= (uint64_t)tensor->shape[i];
    used += (size_t)snprintf(place + used, sizeof place - used, i ? ",%llu" : "%llu", (unsigned long long)(rest / below));
  }
  snprintf(value, sizeof value, "%.9g", isnan(a->value) ? (double)NAN : a->value); /* NaN without a sign */
  if (range) snprintf(bounds, sizeof bounds, "[%.9g,%.9g]", range->low, range->high);
  printf("{\"anomaly\":{\"sample\":%ld,\"input\":\"%s\",\"value\":%s%s%s,\"element\":%llu,\"position\":[%s],"
         "\"not_finite\":%llu,\"outside\":%llu,\"range\":%s}}\n",
         sample, tensor->name, quote, value, quote, (unsigned long long)a->element, place,
         (unsigned long long)a->not_finite, (unsigned long long)a->outside, bounds);
  if (refused)
    fprintf(stderr, "%s: input %s of sample %ld holds %s at [%s]; the range is %s; nothing was computed\n", ep_name,
            tensor->name, sample, value, place, range ? bounds : "not known");
}

/* Looks through all samples before the first is computed, prints a line for each input of a sample that is anomalous, and
 * counts these samples. The files are at their beginning again. */
SMALL static int inspect(ports *in, const options *o, long *anomalous) {
  int code = OK;
  *anomalous = 0;
  if (o->anomalies == OFF) return OK;
  for (long s = 0; s < o->batch; s++) {
    if (!read_sample(in, ep_input)) return fail(BAD_INPUT, "an input ended early", NULL);
    int worst = EP_NORMAL;
    for (int i = 0; i < in->count; i++) {
      ep_anomaly a;
      int found = ep_inspect(i, in->data[i], &a);
      if (found == EP_NORMAL) continue;
      int refused = o->anomalies == REFUSE || (o->anomalies == GUARD && found == EP_NOT_FINITE);
      tell(s, i, &a, refused && code == OK);
      if (refused) code = ANOMALOUS;
      if (found > worst) worst = found;
    }
    *anomalous += worst != EP_NORMAL;
  }
  for (int i = 0; i < in->count; i++)
    if (fseek(in->files[i], 0, SEEK_SET) != 0) return fail(BAD_INPUT, "cannot be read again", o->inputs[i]);
  return code;
}

/* ---- commands ----------------------------------------------------------------------------------- */

SMALL int run(ep_model *model, const options *o) {
  ports in = {0}, out = {0};
  int code = open_inputs(&in, o);
  if (code == OK && o->output_count != ep_output_count) code = fail(USAGE, "one --output for each output is needed", NULL);
  long anomalous = 0;
  if (code == OK) code = inspect(&in, o, &anomalous);
  if (code == OK) code = buffers(&out, ep_output_count, ep_output);
  for (int i = 0; code == OK && i < ep_output_count; i++)
    if ((out.files[i] = fopen(o->outputs[i], "wb")) == NULL) code = fail(BAD_INPUT, "cannot be written", o->outputs[i]);
  for (long s = 0; code == OK && s < o->batch; s++) {
    if (!read_sample(&in, ep_input)) code = fail(BAD_INPUT, "an input ended early", NULL);
    else code = infer(model, &in, &out);
    for (int i = 0; code == OK && i < ep_output_count; i++)
      if (fwrite(out.data[i], 1, bytes_of(ep_output(i)), out.files[i]) != bytes_of(ep_output(i)))
        code = fail(INTERNAL, "cannot write", o->outputs[i]);
  }
  for (int i = 0; i < out.count; i++) {
    if (out.files[i] && fclose(out.files[i]) != 0 && code == OK) code = fail(INTERNAL, "cannot write", o->outputs[i]);
    out.files[i] = NULL;
  }
  release(&in);
  release(&out);
  if (code == OK && anomalous) printf("{\"samples\":%ld,\"anomalous\":%ld}\n", o->batch, anomalous);
  else if (code == OK) printf("{\"samples\":%ld}\n", o->batch);
  return code;
}

SMALL int check(ep_model *model, const options *o) {
  ports in = {0}, out = {0}, expect = {0};
  int code = open_inputs(&in, o);
  if (code == OK && o->expect_count != ep_output_count) code = fail(USAGE, "one --expect for each output is needed", NULL);
  if (code == OK) code = buffers(&out, ep_output_count, ep_output);
  if (code == OK) code = buffers(&expect, ep_output_count, ep_output);
  for (int i = 0; code == OK && i < ep_output_count; i++)
    if ((expect.files[i] = open_samples(o->expects[i], ep_output(i), o->batch)) == NULL)
      code = fail(BAD_INPUT, "missing, or not the size of the batch", o->expects[i]);
  double diff = 0, scale = 0;
  int comparable = 1;
  for (long s = 0; code == OK && s < o->batch; s++) {
    if (!read_sample(&in, ep_input) || !read_sample(&expect, ep_output)) code = fail(BAD_INPUT, "a file ended early", NULL);
    else code = infer(model, &in, &out);
    for (int i = 0; code == OK && i < ep_output_count; i++)
      for (uint64_t j = 0; j < ep_output(i)->elements; j++) {
        ep_type type = ep_output(i)->type;
        double a = ep_number(type, out.data[i], j), b = ep_number(type, expect.data[i], j);
        if (!isfinite(a) || !isfinite(b)) comparable = 0;
        if (fabs(a - b) > diff) diff = fabs(a - b);
        if (fabs(b) > scale) scale = fabs(b);
      }
  }
  release(&in);
  release(&out);
  release(&expect);
  if (code != OK) return code;
  int ok = comparable && diff <= o->atol + o->rtol * scale;
  if (comparable)
    printf("{\"max_abs_diff\":%.9g,\"scale\":%.9g,\"ok\":%s}\n", diff, scale, ok ? "true" : "false");
  else
    printf("{\"max_abs_diff\":null,\"scale\":%.9g,\"ok\":false}\n", scale);
  return ok ? OK : DIFFERENT;
}
