/* Weights that lie in the program without their zeros, brought back word by word. docs/STORAGE.md has the format. */
#include <string.h>

#include "decode.h"

enum { MOST_LEVELS = 4, MOST_UNIT = 6 };

static uint32_t number(const unsigned char *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Takes the sizes of a tree's levels from `sizes`, the coarsest first, and their bytes from *at. 0 if all lie before
 * `end`. */
static int open_tree(ep_tree *tree, int levels, uint64_t flags, const unsigned char *sizes, const unsigned char **at,
                     const unsigned char *end) {
  tree->levels = levels;
  for (int level = 0; level < levels; level++) {
    tree->flags[level] = flags;
    tree->held[level] = 0;
    flags = flags / 8 + (flags % 8 != 0);
  }
  for (int level = levels - 1; level >= 0; level--, sizes += 4) {
    if (number(sizes) > (uint64_t)(end - *at)) return -1;
    tree->at[level] = *at;
    tree->end[level] = *at += number(sizes);
  }
  return 0;
}

/* Byte i of a level; they are asked for in order. -1 if it is damaged. */
static int next_byte(ep_tree *tree, int level, uint64_t i) {
  int left_out = level + 1 < tree->levels; /* bytes that are 0 */
  if (left_out) {
    if (i % 8 == 0) {
      int above = next_byte(tree, level + 1, i / 8);
      if (above < 0) return -1;
      tree->held[level + 1] = (unsigned char)above;
    }
    if (!(tree->held[level + 1] >> (i % 8) & 1)) return 0;
  }
  if (tree->at[level] == tree->end[level]) return -1;
  int byte = *tree->at[level]++;
  if (left_out && byte == 0) return -1;
  uint64_t behind = tree->flags[level] - 8 * i; /* flags from this byte on; no more may be set */
  return behind < 8 && byte >> behind ? -1 : byte;
}

static int spent(const ep_tree *tree) {
  for (int level = 0; level < tree->levels; level++)
    if (tree->at[level] != tree->end[level]) return 0;
  return 1;
}

int ep_decode_begin(ep_decoder *d, const unsigned char *data, uint64_t bytes, uint64_t words) {
  const unsigned char *end = data + bytes;
  if (bytes < 8) return -1;
  int unit = data[0], levels = data[1], minus = data[2];
  if (unit > MOST_UNIT || levels < 1 || levels > MOST_LEVELS || minus > MOST_LEVELS || data[3] != 0) return -1;
  const unsigned char *sizes = data + 8;
  if (bytes - 8 < 4u * (uint64_t)(levels + minus)) return -1;
  const unsigned char *at = sizes + 4 * (levels + minus);
  d->words = words;
  d->done = 0;
  d->unit = (uint64_t)1 << unit;
  d->negative = number(data + 4);
  if (open_tree(&d->stored, levels, (words + d->unit - 1) >> unit, sizes, &at, end) != 0) return -1;
  if (open_tree(&d->minus, minus, words, sizes + 4 * levels, &at, end) != 0) return -1;
  d->value = at;
  d->end = end;
  return 0;
}

int ep_decode_next(ep_decoder *d, uint32_t *out, uint64_t count) {
  if (count > d->words - d->done) return -1;
  uint64_t step = 8 * d->unit;
  for (uint64_t first = 0; first < count; first += step) {
    int flags = next_byte(&d->stored, 0, (d->done + first) / step);
    if (flags < 0) return -1;
    for (uint64_t at = first; flags; flags >>= 1, at += d->unit) {
      if (!(flags & 1)) continue;
      if (at >= count) return -1;
      uint64_t n = count - at < d->unit ? count - at : d->unit;
      if ((uint64_t)(d->end - d->value) < n * sizeof *out) return -1;
      memcpy(out + at, d->value, n * sizeof *out);
      d->value += n * sizeof *out;
    }
  }
  for (uint64_t first = 0; d->minus.levels && first < count; first += 8) {
    int flags = next_byte(&d->minus, 0, (d->done + first) / 8);
    if (flags < 0) return -1;
    for (uint64_t at = first; flags; flags >>= 1, at++) {
      if (!(flags & 1)) continue;
      if (at >= count || out[at] != 0 || d->negative-- == 0) return -1;
      out[at] = 0x80000000u;
    }
  }
  d->done += count;
  if (d->done < d->words) return 0;
  return d->value == d->end && spent(&d->stored) && spent(&d->minus) && d->negative == 0 ? 0 : -1;
}
