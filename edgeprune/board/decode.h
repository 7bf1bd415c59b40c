/* The reader of weights that are stored without their zeros (docs/STORAGE.md). */
#ifndef EDGEPRUNE_DECODE_H
#define EDGEPRUNE_DECODE_H

#include <stdint.h>

/* Flags, eight to a byte. Of a level below the coarsest, bytes that are 0 are left out; the level above has a flag for
 * each byte. Level 0 is the finest. */
typedef struct {
  const unsigned char *at[4], *end[4];
  uint64_t flags[4];
  unsigned char held[4];
  int levels;
} ep_tree;

typedef struct {
  ep_tree stored, minus; /* units of words whose values are there; of the other words those that are -0.0 */
  const unsigned char *value, *end;
  uint64_t words, done, unit, negative;
} ep_decoder;

/* Words that may be asked for at a time: a multiple of these, but for the last ones. */
enum { EP_DECODE_STEP = 512 };

/* Begins to read the `bytes` at `data` as `words` words of 32 bits. The data stay where they are while it is read. 0, or
 * -1 if they are damaged: nothing outside of them is read. */
int ep_decode_begin(ep_decoder *d, const unsigned char *data, uint64_t bytes, uint64_t words);

/* The next `count` words into `out`, which is zeroed and of 4 bytes' alignment. 0, or -1 if the data are damaged, also
 * where some of them are left behind the last word. */
int ep_decode_next(ep_decoder *d, uint32_t *out, uint64_t count);

#endif
