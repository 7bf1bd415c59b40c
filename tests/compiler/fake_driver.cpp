/* libcuda.so.1 for a computer without a GPU: memory is memory, and a launch runs the kernels' own CUDA source,
   compiled for the processor, thread after thread. KERNELS is that source, TABLE its list of kernels. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define __global__
#define __launch_bounds__(n)

struct place {
  int x, y, z;
};
static place blockIdx, threadIdx;
static inline float max(float a, float b) { return a > b ? a : b; }
static inline float min(float a, float b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline int min(int a, int b) { return a < b ? a : b; }

#include KERNELS

struct kernel {
  const char *name;
  void (*call)(void **);
};
#include TABLE

/* FAKE_CUDA says what goes wrong: the name of the function that fails. */
static int result(const char *name) {
  const char *wrong = getenv("FAKE_CUDA");
  return wrong && strcmp(wrong, name) == 0 ? 700 : 0;
}

static long taken;

extern "C" {
int cuInit(unsigned) { return result("cuInit"); }
int cuDeviceGet(int *device, int) { return *device = 0, result("cuDeviceGet"); }
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &taken, result("cuDevicePrimaryCtxRetain"); }
int cuDevicePrimaryCtxRelease(int) {
  if (taken != 0) fprintf(stderr, "%ld allocations were not freed\n", taken);
  return 0;
}
int cuCtxSetCurrent(void *) { return 0; }
int cuCtxSynchronize() { return result("cuCtxSynchronize"); }
int cuModuleLoadData(void **module, const void *image) {
  const unsigned char *bytes = (const unsigned char *)image;
  *module = &taken;
  return memcmp(bytes, "\177ELF", 4) == 0 && bytes[18] == 190 ? result("cuModuleLoadData") : 200;
}
int cuModuleUnload(void *) { return 0; }
int cuModuleGetFunction(void **function, void *, const char *name) {
  for (const kernel &k : kernels)
    if (strcmp(k.name, name) == 0) return *function = (void *)&k, 0;
  return 500;
}
int cuMemAlloc_v2(unsigned long long *address, size_t bytes) {
  if (result("cuMemAlloc")) return 2;
  void *memory = malloc(bytes);
  memset(memory, 0xff, bytes); /* NaN, until somebody writes there */
  return *address = (unsigned long long)memory, taken++, 0;
}
int cuMemFree_v2(unsigned long long address) { return free((void *)address), taken--, 0; }
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t n) { return memcpy((void *)to, from, n), 0; }
int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t n) { return memcpy(to, (void *)from, n), 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned,
                   void *, void **parameters, void **) {
  if (result("cuLaunchKernel") || gy * gz * by * bz != 1) return 1;
  for (blockIdx.x = 0; blockIdx.x < (int)gx; blockIdx.x++)
    for (threadIdx.x = 0; threadIdx.x < (int)bx; threadIdx.x++) ((const kernel *)function)->call(parameters);
  return 0;
}
int cuGetErrorName(int code, const char **name) {
  return *name = code == 200 ? "CUDA_ERROR_INVALID_IMAGE" : code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR", 0;
}
}
