/* Random octets for message ids, sibling labels and jitter: getrandom(2) in production, a seeded stream in tests. */
#ifndef DKIMROLL_ENTROPY_H
#define DKIMROLL_ENTROPY_H

#include <stddef.h>
#include <stdint.h>

struct entropy {
  void (*fill)(struct entropy *entropy, void *octets, size_t size);
};

/* The kernel's; never fails (the process aborts if getrandom(2) does, which Linux rules out after boot). */
extern struct entropy entropy_system;

uint16_t entropy_u16(struct entropy *entropy);
/* Uniform in [0, limit); limit > 0. */
uint32_t entropy_below(struct entropy *entropy, uint32_t limit);

/* A deterministic stream for tests (splitmix64). */
struct entropy_seeded {
  struct entropy entropy;
  uint64_t state;
};
void entropy_seed(struct entropy_seeded *seeded, uint64_t seed);

#endif
