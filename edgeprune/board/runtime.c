/* Runs the static plan: one arena, calls in order, and the few symbols compiled kernels import. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "program.h"

#define ALIGNMENT 64
#define SPINS 20000

static char error_text[512];

const char *ep_error(void) { return error_text; }

/* ---- thread pool -------------------------------------------------------------------------
 * Workers spin for a while after each launch, because the next kernel usually follows within
 * microseconds, then sleep. The caller takes task 0, so one thread never waits for anybody. */

typedef struct {
  void *sync_handle;
  int32_t num_task;
} parallel_env;
typedef int (*parallel_body)(int task, parallel_env *env, void *data);

static struct {
  int threads;
  pthread_t *workers;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  atomic_uint generation;
  atomic_int running, sleeping, failed, stop;
  parallel_body body;
  void *data;
} pool = {.threads = 1, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

static void *worker(void *argument) {
  int task = (int)(intptr_t)argument;
  unsigned seen = 0;
  for (;;) {
    int spins = 0;
    while (atomic_load_explicit(&pool.generation, memory_order_acquire) == seen) {
      if (++spins < SPINS) {
        relax();
        continue;
      }
      pthread_mutex_lock(&pool.lock);
      atomic_fetch_add(&pool.sleeping, 1);
      while (atomic_load(&pool.generation) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
      atomic_fetch_sub(&pool.sleeping, 1);
      pthread_mutex_unlock(&pool.lock);
    }
    seen++;
    if (atomic_load(&pool.stop)) return NULL;
    parallel_env env = {NULL, pool.threads};
    if (pool.body(task, &env, pool.data) != 0) atomic_store(&pool.failed, 1);
    atomic_fetch_sub_explicit(&pool.running, 1, memory_order_release);
  }
}

static void pool_signal(void) {
  atomic_fetch_add(&pool.generation, 1);
  if (atomic_load(&pool.sleeping) > 0) {
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
  }
}

static void pool_stop(void) {
  if (pool.workers == NULL) return;
  atomic_store(&pool.stop, 1);
  pool_signal();
  for (int i = 1; i < pool.threads; i++) pthread_join(pool.workers[i], NULL);
  free(pool.workers);
  pool.workers = NULL;
  pool.threads = 1;
  atomic_store(&pool.stop, 0);
  atomic_store(&pool.generation, 0);
}

static int pool_start(int threads) {
  if (threads <= 1) return 0;
  pool.workers = calloc((size_t)threads, sizeof(pthread_t));
  if (pool.workers == NULL) return -1;
  pool.threads = 1;
  for (int i = 1; i < threads; i++) {
    if (pthread_create(&pool.workers[i], NULL, worker, (void *)(intptr_t)i) != 0) {
      pool_stop();
      return -1;
    }
    pool.threads = i + 1;
  }
  return 0;
}

static int parallel_launch(parallel_body body, void *data, int tasks) {
  (void)tasks; /* kernels split by env->num_task; they never ask for a fixed number */
  if (pool.threads == 1) {
    parallel_env env = {NULL, 1};
    return body(0, &env, data);
  }
  parallel_env env = {NULL, pool.threads};
  pool.body = body;
  pool.data = data;
  atomic_store(&pool.failed, 0);
  atomic_store(&pool.running, pool.threads - 1);
  pool_signal();
  int failed = body(0, &env, data);
  while (atomic_load_explicit(&pool.running, memory_order_acquire) > 0) relax();
  return failed != 0 || atomic_load(&pool.failed) ? -1 : 0;
}

static int nothing(int task, parallel_env *env, void *data) {
  (void)task, (void)env, (void)data;
  return 0;
}

void ep_wake(void) { parallel_launch(nothing, NULL, 0); }

/* ---- what kernels import ----------------------------------------------------------------- */

/* There is no __TVMBackendAllocWorkspace: a kernel that wants memory of its own is refused when it is built. */
int (*__TVMBackendParallelLaunch)(parallel_body, void *, int) = parallel_launch;

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  size_t used = (size_t)snprintf(error_text, sizeof error_text, "%s: ", kind);
  for (int32_t i = 0; i < count && used < sizeof error_text; i++)
    used += (size_t)snprintf(error_text + used, sizeof error_text - used, "%s", parts[i] ? parts[i] : "");
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  TVMFFIErrorSetRaisedFromCStrParts(kind, &message, 1);
}

/* ---- the model --------------------------------------------------------------------------- */

static uint64_t weight_span, allocated;

struct ep_model {
  unsigned char *arena;
  unsigned char *synthetic;
#ifdef EP_COMPRESSED
  unsigned char *decoded;
#endif
  uint64_t stretch; /* where the synthetic weights of the next call begin */
#ifdef EP_FIXED
  int laid; /* fixed values lie among them */
#endif
  ep_dl_tensor *tensors;
  int64_t *shapes;
};

static uint64_t round_up(uint64_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static uint64_t table_bytes(void) {
  return round_up(sizeof(struct ep_model)) + (uint64_t)ep_buffer_count * (sizeof(ep_dl_tensor) + sizeof(int64_t));
}

static uint64_t synthetic_bytes(void) {
  uint64_t bytes = ep_weight_bytes > weight_span ? ep_weight_bytes : weight_span;
  return ep_synthetic_weights ? round_up(bytes ? bytes : ALIGNMENT) : 0;
}

static uint64_t decoded_bytes(void) {
#ifdef EP_COMPRESSED
  return ep_decoded_bytes;
#else
  return 0;
#endif
}

void ep_set_weight_span(uint64_t bytes) { weight_span = bytes; }

ep_info ep_describe(void) {
  uint64_t synthetic = synthetic_bytes();
  ep_info info = {ep_arena_bytes, ep_arena_bytes + table_bytes() + synthetic + decoded_bytes(), ep_weight_bytes,
                  ep_input_count, ep_output_count, ep_call_count};
  return info;
}

const ep_tensor *ep_input(int i) { return i >= 0 && i < ep_input_count ? &ep_inputs[i].tensor : NULL; }
const ep_tensor *ep_output(int i) { return i >= 0 && i < ep_output_count ? &ep_outputs[i].tensor : NULL; }

static float noise(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return (float)(*state >> 8) * (2.0f / 16777216.0f) - 1.0f;
}

void ep_fill_arena(ep_model *model) {
  uint32_t state = 1;
  float *values = (float *)model->arena;
  for (uint64_t i = 0; i < ep_arena_bytes / sizeof(float); i++) values[i] = noise(&state);
}

static SMALL void fill_weights(ep_model *model) {
  uint32_t state = 2;
  float *values = (float *)model->synthetic;
  for (uint64_t i = 0; i < synthetic_bytes() / sizeof(float); i++) values[i] = 0.1f * noise(&state);
}

#ifdef EP_FIXED
static SMALL void lay(ep_model *model, const ep_fixed *fixed, uint64_t stretch) {
  const ep_buffer *b = &ep_buffers[fixed->buffer];
  memcpy(model->synthetic + stretch + b->offset, fixed->values, (uint64_t)b->elements * sizeof(uint32_t));
}
#endif

/* Every byte of a model comes from here, zeroed. */
static void *take(uint64_t bytes) {
  void *p = NULL;
  if (posix_memalign(&p, ALIGNMENT, bytes ? bytes : ALIGNMENT) != 0) return NULL;
  allocated += bytes;
  return memset(p, 0, bytes);
}

uint64_t ep_allocated(void) { return allocated; }

const int ep_paced = 1;
void (*ep_passes)(ep_model *model, int next);

#ifdef EP_COMPRESSED
static int decode(ep_model *model) {
  model->decoded = take(ep_decoded_bytes);
  if (model->decoded == NULL) return snprintf(error_text, sizeof error_text, "cannot allocate the weights"), -1;
  for (int i = 0; i < ep_code_count; i++) {
    const ep_code *code = &ep_codes[i];
    ep_decoder d;
    if (ep_decode_begin(&d, ep_weights + code->offset, code->bytes, code->words) != 0 ||
        ep_decode_next(&d, (uint32_t *)(model->decoded + code->decoded_offset), code->words) != 0) {
      snprintf(error_text, sizeof error_text, "the compressed weights are damaged (number %d)", i);
      return -1;
    }
  }
  return 0;
}
#endif

ep_model *ep_open(int threads) {
  allocated = 0;
  ep_model *model = take(table_bytes());
  if (model == NULL) return NULL;
  model->tensors = (ep_dl_tensor *)((unsigned char *)model + round_up(sizeof *model));
  model->shapes = (int64_t *)(model->tensors + ep_buffer_count);
  model->arena = take(ep_arena_bytes);
  model->synthetic = ep_synthetic_weights ? take(synthetic_bytes()) : NULL;
  if (model->arena == NULL || (ep_synthetic_weights && model->synthetic == NULL) || pool_start(threads) != 0) {
    snprintf(error_text, sizeof error_text, "cannot allocate %llu bytes or start %d threads",
             (unsigned long long)ep_describe().peak_ram_bytes, threads);
    ep_close(model);
    return NULL;
  }
#ifdef EP_COMPRESSED
  if (decode(model) != 0) {
    ep_close(model);
    return NULL;
  }
#endif
  if (ep_synthetic_weights) {
    fill_weights(model);
#ifdef EP_FIXED
    for (int i = 0; i < ep_fixed_count; i++) lay(model, &ep_fixed_values[i], 0);
    model->laid = 1;
#endif
  }
  for (int i = 0; i < ep_buffer_count; i++) {
    const ep_buffer *b = &ep_buffers[i];
    const unsigned char *base = ep_synthetic_weights ? model->synthetic : ep_weights;
#ifdef EP_COMPRESSED
    if (b->space == EP_DECODED) base = model->decoded;
#endif
    model->shapes[i] = b->elements;
    ep_dl_tensor *t = &model->tensors[i];
    t->data = b->space == EP_ARENA ? model->arena + b->offset : (void *)(uintptr_t)(base + b->offset);
    t->device.device_type = 1; /* kDLCPU */
    t->ndim = 1;
    t->dtype = ep_dl_type(b->type);
    t->shape = &model->shapes[i];
  }
  return model;
}

void ep_close(ep_model *model) {
  if (model == NULL) return;
  pool_stop();
  free(model->arena);
  free(model->synthetic);
#ifdef EP_COMPRESSED
  free(model->decoded);
#endif
  free(model);
}

#define MAX_BUFFERS 64

int ep_run_call(ep_model *model, int index) {
  const ep_call *call = &ep_calls[index];
  ep_ffi_any args[MAX_BUFFERS], result = {0, 0, {0}};
  if (call->buffers > MAX_BUFFERS) {
    snprintf(error_text, sizeof error_text, "kernel %s has %d buffers, at most %d", call->name, call->buffers,
             MAX_BUFFERS);
    return -1;
  }
  for (int i = 0; i < call->buffers; i++) {
    args[i].type_index = EP_FFI_DLTENSOR;
    args[i].zero_padding = 0;
    args[i].v_ptr = &model->tensors[call->first_buffer + i];
  }
  return call->kernel(NULL, args, call->buffers, &result);
}

int ep_finish(ep_model *model) {
  (void)model; /* a call returns when it is done */
  return 0;
}

/* Bytes of a call's weights, from the beginning of a stretch. */
static SMALL uint64_t weights_end(const ep_call *call) {
  uint64_t end = 0;
  for (int i = call->first_buffer; i < call->first_buffer + call->buffers; i++)
    if (ep_buffers[i].space == EP_WEIGHTS) {
      uint64_t last = ep_buffers[i].offset + (uint64_t)ep_buffers[i].elements * sizeof(float);
      if (last > end) end = last;
    }
  return end;
}

#ifdef EP_FIXED
void ep_fill_weights(ep_model *model, int index) {
  const ep_call *call = &ep_calls[index];
  uint64_t end = weights_end(call);
  if (model->laid) fill_weights(model); /* other kernels' fixed values may lie where this one has weights */
  model->laid = 0;
  model->stretch = 0;
  if (end == 0) return;
  for (int i = 0; i < ep_fixed_count; i++) {
    int own = ep_fixed_values[i].buffer - call->first_buffer;
    if (own < 0 || own >= call->buffers) continue;
    for (uint64_t at = 0; at + end <= synthetic_bytes(); at += round_up(end)) lay(model, &ep_fixed_values[i], at);
    model->laid = 1;
  }
}
#else
void ep_fill_weights(ep_model *model, int index) { (void)model, (void)index; }
#endif

void ep_next_weights(ep_model *model, int index) {
  const ep_call *call = &ep_calls[index];
  uint64_t end = weights_end(call);
  if (end == 0) return;
  if (model->stretch + end > synthetic_bytes()) model->stretch = 0;
  for (int i = call->first_buffer; i < call->first_buffer + call->buffers; i++)
    if (ep_buffers[i].space == EP_WEIGHTS)
      model->tensors[i].data = model->synthetic + model->stretch + ep_buffers[i].offset;
  model->stretch += round_up(end);
}

int ep_call_finite(ep_model *model, int index) {
  const ep_call *call = &ep_calls[index];
  const ep_dl_tensor *out = &model->tensors[call->first_buffer + call->buffers - 1];
  const uint32_t *bits = out->data;
  for (int64_t i = 0; i < out->shape[0]; i++)
    if ((bits[i] & 0x7f800000u) == 0x7f800000u) return 0;
  return 1;
}

/* floats: what every input and output is given as; else each is of its own type. */
static int infer(ep_model *model, int floats, const void *const *inputs, void *const *outputs) {
  for (int i = 0; i < ep_input_count; i++) {
    const ep_port *port = &ep_inputs[i];
    int code = ep_take(port, floats ? EP_FLOAT32 : port->tensor.type, inputs[i], model->arena + port->offset, error_text,
                       sizeof error_text);
    if (code != 0) return code;
  }
  for (int i = 0; i < ep_call_count; i++) {
    if (ep_passes) ep_passes(model, i);
    if (ep_run_call(model, i) != 0) {
      char reason[sizeof error_text];
      memcpy(reason, error_text, sizeof reason);
      snprintf(error_text, sizeof error_text, "kernel %s: %.400s", ep_calls[i].name, reason);
      return EP_FAILED;
    }
  }
  if (ep_passes) ep_passes(model, ep_call_count);
  for (int i = 0; i < ep_output_count; i++) {
    const ep_port *port = &ep_outputs[i];
    ep_give(floats ? EP_FLOAT32 : port->tensor.type, (const float *)(model->arena + port->offset), outputs[i],
            port->tensor.elements);
  }
  return 0;
}

int ep_run(ep_model *model, const void *const *inputs, void *const *outputs) { return infer(model, 0, inputs, outputs); }

int ep_run_floats(ep_model *model, const float *const *inputs, float *const *outputs) {
  return infer(model, 1, (const void *const *)inputs, (void *const *)outputs);
}
