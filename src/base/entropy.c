#include "dkimroll/entropy.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static void entropy_system_fill(struct entropy *entropy, void *octets, size_t size) {
  (void)entropy;
  unsigned char *next = octets;
  while (size > 0) {
    ssize_t got = getrandom(next, size, 0);
    if (got < 0 && errno == EINTR) continue;
    /* Predictable message ids and selectors would be worse than a restart. */
    if (got <= 0) abort();
    next += got;
    size -= (size_t)got;
  }
}

struct entropy entropy_system = {.fill = entropy_system_fill};

uint16_t entropy_u16(struct entropy *entropy) {
  unsigned char octets[2] = {0};
  entropy->fill(entropy, octets, sizeof(octets));
  return (uint16_t)(octets[0] << 8 | octets[1]);
}

uint32_t entropy_below(struct entropy *entropy, uint32_t limit) {
  assert(limit > 0);
  /* The highest values would favour small remainders, so they are drawn again; less than one draw in two is lost. */
  uint32_t excess = (uint32_t)((UINT64_C(1) << 32) % limit);
  for (;;) {
    unsigned char octets[4] = {0};
    entropy->fill(entropy, octets, sizeof(octets));
    uint32_t value = (uint32_t)octets[0] << 24 | (uint32_t)octets[1] << 16 | (uint32_t)octets[2] << 8 | octets[3];
    if (value <= UINT32_MAX - excess) return value % limit;
  }
}

static uint64_t entropy_seeded_next(struct entropy_seeded *seeded) {
  seeded->state += UINT64_C(0x9e3779b97f4a7c15);
  uint64_t mixed = seeded->state;
  mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
  return mixed ^ mixed >> 31;
}

/* Octet order is fixed, so that a seed means the same on every machine. */
static void entropy_seeded_fill(struct entropy *entropy, void *octets, size_t size) {
  struct entropy_seeded *seeded = (struct entropy_seeded *)entropy;
  unsigned char *next = octets;
  for (size_t i = 0; i < size;) {
    uint64_t word = entropy_seeded_next(seeded);
    for (size_t j = 0; j < sizeof(word) && i < size; j++, i++) next[i] = (unsigned char)(word >> (8 * j));
  }
}

void entropy_seed(struct entropy_seeded *seeded, uint64_t seed) {
  *seeded = (struct entropy_seeded){.entropy.fill = entropy_seeded_fill, .state = seed};
}
