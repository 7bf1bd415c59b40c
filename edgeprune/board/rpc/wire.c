/* Requests and replies: fields of a 32-bit size and that many bytes. Integers are 8 bytes, texts end
 * in a NUL. All is little-endian, as every board is that a target file can name. */
#include "shim.h"

#include <stdlib.h>
#include <string.h>

const char *read_bytes(reader *from, size_t *size) {
  uint32_t length;
  *size = 0;
  if (from->bad || from->left < sizeof length) {
    from->bad = 1;
    return "";
  }
  memcpy(&length, from->at, sizeof length);
  if (from->left - sizeof length < length) {
    from->bad = 1;
    return "";
  }
  const char *field = from->at + sizeof length;
  from->at = field + length;
  from->left -= sizeof length + length;
  *size = length;
  return field;
}

const char *read_text(reader *from) {
  size_t size;
  const char *field = read_bytes(from, &size);
  if (from->bad || size == 0 || memchr(field, 0, size) != field + size - 1) {
    from->bad = 1;
    return "";
  }
  return field;
}

int64_t read_int(reader *from) {
  size_t size;
  int64_t value = 0;
  const char *field = read_bytes(from, &size);
  if (size == sizeof value)
    memcpy(&value, field, sizeof value);
  else
    from->bad = 1;
  return value;
}

char *write_space(writer *to, size_t size) {
  size_t needed = to->size + sizeof(uint32_t) + size;
  if (!to->failed && needed > to->room) {
    char *grown = realloc(to->data, needed + needed / 2);
    if (grown) {
      to->data = grown;
      to->room = needed + needed / 2;
    } else {
      to->failed = 1;
    }
  }
  return to->failed ? NULL : to->data + to->size + sizeof(uint32_t);
}

void write_used(writer *to, size_t size) {
  uint32_t length = (uint32_t)size;
  if (to->failed) return;
  memcpy(to->data + to->size, &length, sizeof length);
  to->size += sizeof length + size;
}

void write_bytes(writer *to, const void *data, size_t size) {
  char *space = write_space(to, size);
  if (space && size) memcpy(space, data, size);
  write_used(to, size);
}

void write_int(writer *to, int64_t value) { write_bytes(to, &value, sizeof value); }
