/* An allocator of the test itself, which fails once, also for libraries. For one test program that is built without sanitizers (OWN_ALLOCATOR in the Makefile). */
#ifndef DKIMROLL_TESTS_OWN_ALLOCATOR_H
#define DKIMROLL_TESTS_OWN_ALLOCATOR_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

/* The C library's own, by the names that it keeps for those who replace malloc. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static unsigned long allocations, allocation_fails_at; /* 0: none fails */

static bool allocator_runs_out(void) {
  if (++allocations != allocation_fails_at) return false;
  errno = ENOMEM;
  return true;
}

/* Counts from now on; the nth of them fails. */
static inline void allocator_begin(unsigned long nth) {
  allocations = 0;
  allocation_fails_at = nth;
}

void *malloc(size_t size) { return allocator_runs_out() ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return allocator_runs_out() ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return allocator_runs_out() ? NULL : __libc_realloc(old, size); }

#endif
