/* The exported function: TVM's calling convention around request -> reply. */
#include "shim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What this needs of TVM's C interface (tvm/ffi/c_api.h, version 0.1): layouts, no symbol. */
enum { TYPE_BYTE_ARRAY_PTR = 9, TYPE_SMALL_BYTES = 12, TYPE_BYTES = 66 };

typedef struct {
  uint64_t references; /* strong in the lower half, weak in the upper */
  int32_t type_index;
  uint32_t padding;
  union {
    void (*deleter)(void *self, int flags);
    int64_t align;
  };
} TVMFFIObject;

typedef struct {
  const char *data;
  size_t size;
} TVMFFIByteArray;

typedef struct {
  int32_t type_index;
  uint32_t small_size;
  union {
    int64_t integer;
    void *pointer;
    char bytes[8];
  };
} TVMFFIAny;

typedef struct {
  TVMFFIObject header;
  TVMFFIByteArray array;
} Bytes;

enum { DELETE_VALUE = 1, DELETE_MEMORY = 2 };

static void delete_bytes(void *self, int flags) {
  Bytes *bytes = self;
  if (flags & DELETE_VALUE) {
    free((char *)bytes->array.data);
    bytes->array.data = NULL;
  }
  if (flags & DELETE_MEMORY) free(bytes);
}

static int open_request(const TVMFFIAny *argument, reader *in) {
  const TVMFFIByteArray *array;
  switch (argument->type_index) {
  case TYPE_BYTE_ARRAY_PTR:
    array = argument->pointer;
    break;
  case TYPE_BYTES:
    array = &((const Bytes *)argument->pointer)->array;
    break;
  case TYPE_SMALL_BYTES:
    *in = (reader){argument->bytes, argument->small_size, 0};
    return 0;
  default:
    return EINVAL;
  }
  *in = (reader){array->data, array->size, 0};
  return 0;
}

typedef int (*verb)(reader *in, writer *out);
/* The order is that of edgeprune/devices/rpc_wire.py. */
static const verb verbs[] = {
    file_root, file_create, file_write,  file_commit,   file_abort,   file_open,
    file_read, file_remove, command_start, command_poll, command_cancel,
};

static int answer(const TVMFFIAny *argument, writer *out) {
  reader in;
  int status = open_request(argument, &in);
  if (status) return status;
  int64_t number = read_int(&in);
  if (in.bad || number < 0 || number >= (int64_t)(sizeof verbs / sizeof *verbs)) return EINVAL;
  return verbs[number](&in, out);
}

/* A fault of a request is told in the reply: an error of TVM's would end the session. */
__attribute__((visibility("default"))) int32_t __tvm_ffi_edgeprune_exec(void *self, const TVMFFIAny *arguments,
                                                                        int32_t count, TVMFFIAny *result) {
  (void)self;
  writer out = {0};
  write_int(&out, 0);
  int status = count == 1 ? answer(arguments, &out) : EINVAL;
  if (out.failed && !status) status = ENOMEM;
  Bytes *bytes = malloc(sizeof *bytes);
  if (!bytes || !out.data) { /* None: the asking end takes it for a lost session */
    free(bytes);
    free(out.data);
    return 0;
  }
  int64_t wide = status;
  memcpy(out.data + sizeof(uint32_t), &wide, sizeof wide); /* the first field, behind its size */
  *bytes = (Bytes){{(1ull << 32) | 1, TYPE_BYTES, 0, {delete_bytes}}, {out.data, out.size}};
  result->type_index = TYPE_BYTES;
  result->small_size = 0;
  result->integer = 0; /* a pointer may be narrower */
  result->pointer = bytes;
  return 0;
}
