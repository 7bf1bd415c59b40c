/* A device on a board that is reached through a TVM RPC server: files and commands, and nothing else.
 *
 * One function is exported. It takes one byte string and returns one, both in the format of wire.c,
 * so that it leans on as little of TVM as can be: two struct layouts and a calling convention. */
#ifndef EDGEPRUNE_RPC_SHIM_H
#define EDGEPRUNE_RPC_SHIM_H

#include <stddef.h>
#include <stdint.h>

/* wire.c: fields of a request in order. A fault (short, too long, no end of text) sticks. */
typedef struct {
  const char *at;
  size_t left;
  int bad;
} reader;
int64_t read_int(reader *from);
const char *read_text(reader *from); /* NUL-terminated, inside the request */
const char *read_bytes(reader *from, size_t *size);

/* Fields of a reply. Memory that cannot be had sets failed. */
typedef struct {
  char *data;
  size_t size, room;
  int failed;
} writer;
void write_int(writer *to, int64_t value);
void write_bytes(writer *to, const void *data, size_t size);
char *write_space(writer *to, size_t size); /* for write_used; NULL if failed */
void write_used(writer *to, size_t size);   /* the field is what was put there */

/* files.c and exec.c: each reads its request, writes fields after the status, returns 0 or an errno. */
int file_root(reader *in, writer *out);
int file_create(reader *in, writer *out);
int file_write(reader *in, writer *out);
int file_commit(reader *in, writer *out);
int file_abort(reader *in, writer *out);
int file_open(reader *in, writer *out);
int file_read(reader *in, writer *out);
int file_remove(reader *in, writer *out);
int command_start(reader *in, writer *out);
int command_poll(reader *in, writer *out);
int command_cancel(reader *in, writer *out);

#endif
