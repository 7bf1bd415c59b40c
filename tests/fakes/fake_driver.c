/* libcuda.so.1 for a computer without a GPU: memory is memory, and the machine code of a kernel is a library of this
   computer's processor behind the header of a cubin (fake_nvrtc.py), which runs thread after thread.

   FAKE_GPUS: what GPUs there are, sm_86 if it is not set: "sm_86,sm_75". FAKE_CUDA: the function that fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST 8

typedef void (*launcher)(void **parameters, unsigned blocks, unsigned threads);

static int arch_of[MOST], number_of[MOST], gpus = -1, used;
static long taken;

static int result(const char *name) {
  const char *wrong = getenv("FAKE_CUDA");
  return wrong && strcmp(wrong, name) == 0 ? 700 : 0;
}

static void uuid_of(int number, unsigned char *bytes) {
  memset(bytes, 0xab, 16);
  bytes[15] = (unsigned char)number;
}

/* As the real one: only the GPU whose identity CUDA_VISIBLE_DEVICES names. */
static int visible(int number) {
  const char *only = getenv("CUDA_VISIBLE_DEVICES");
  unsigned char b[16];
  char text[48];
  uuid_of(number, b);
  snprintf(text, sizeof text, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
           b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
  return only == NULL || strcmp(only, text) == 0;
}

int cuInit(unsigned flags) {
  (void)flags;
  const char *list = getenv("FAKE_GPUS");
  if (list == NULL) list = "sm_86";
  gpus = 0;
  for (int number = 0; list != NULL && *list && gpus < MOST; number++) {
    if (visible(number)) arch_of[gpus] = atoi(list + 3), number_of[gpus++] = number;
    list = strchr(list, ',');
    if (list != NULL) list++;
  }
  return result("cuInit");
}
int cuDeviceGetCount(int *count) { return *count = gpus, result("cuDeviceGetCount"); }
int cuDeviceGet(int *device, int ordinal) {
  return *device = ordinal, ordinal < gpus ? result("cuDeviceGet") : 101;
}
int cuDeviceGetName(char *name, int size, int device) {
  return snprintf(name, (size_t)size, "simulated GPU %d", number_of[device]), result("cuDeviceGetName");
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return (void)device, *bytes = (size_t)1 << 30, 0; }
int cuDeviceGetUuid(unsigned char *bytes, int device) { return uuid_of(number_of[device], bytes), 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? arch_of[device] / 10 : attribute == 76 ? arch_of[device] % 10 : 0;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  return used = device, *context = &taken, result("cuDevicePrimaryCtxRetain");
}
int cuDevicePrimaryCtxRelease(int device) {
  (void)device;
  if (taken != 0) fprintf(stderr, "%ld allocations were not freed\n", taken);
  return 0;
}
int cuCtxSetCurrent(void *context) { return (void)context, 0; }
int cuCtxSynchronize(void) { return result("cuCtxSynchronize"); }
int cuModuleLoadData(void **module, const void *image) {
  const unsigned char *bytes = image;
  uint64_t offset, size;
  if (memcmp(bytes, "\177ELF", 4) != 0 || bytes[18] != 190) return 200;
  int code = bytes[48], gpu = arch_of[used];
  if (code / 10 != gpu / 10 || code > gpu) return 209;
  memcpy(&offset, bytes + 64, 8);
  memcpy(&size, bytes + 72, 8);
  char path[64];
  int file = memfd_create("kernel", 0);
  if (file < 0 || write(file, bytes + offset, size) != (ssize_t)size) return 999;
  /* It stays open: a name that is used again would be the library that was loaded from it first. */
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (*module == NULL) fprintf(stderr, "%s\n", dlerror());
  taken += *module != NULL;
  return *module == NULL ? 999 : result("cuModuleLoadData");
}
int cuModuleUnload(void *module) { return taken--, dlclose(module); }
int cuModuleGetFunction(void **function, void *module, const char *name) {
  char launch[256];
  snprintf(launch, sizeof launch, "launch_%s", name);
  return *function = dlsym(module, launch), *function == NULL ? 500 : 0;
}
int cuMemAlloc_v2(unsigned long long *address, size_t bytes) {
  if (result("cuMemAlloc")) return 2;
  void *memory = malloc(bytes);
  memset(memory, 0xff, bytes); /* NaN, until somebody writes there */
  return *address = (uintptr_t)memory, taken++, 0;
}
int cuMemFree_v2(unsigned long long address) { return free((void *)(uintptr_t)address), taken--, 0; }
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t n) { return memcpy((void *)(uintptr_t)to, from, n), 0; }
int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t n) { return memcpy(to, (void *)(uintptr_t)from, n), 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
  (void)stream, (void)extra;
  if (result("cuLaunchKernel") || gy * gz * by * bz != 1 || shared != 0) return 1;
  launcher launch;
  memcpy(&launch, &function, sizeof launch);
  return launch(parameters, gx, bx), 0;
}
int cuGetErrorName(int code, const char **name) {
  *name = code == 200   ? "CUDA_ERROR_INVALID_IMAGE"
          : code == 209 ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
          : code == 2   ? "CUDA_ERROR_OUT_OF_MEMORY"
                        : "CUDA_ERROR";
  return 0;
}
