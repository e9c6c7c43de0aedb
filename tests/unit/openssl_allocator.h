/* OpenSSL's allocations counted, of which some fail. For programs that install it before OpenSSL's first allocation. */
#ifndef DKIMROLL_TESTS_OPENSSL_ALLOCATOR_H
#define DKIMROLL_TESTS_OPENSSL_ALLOCATOR_H

#include <stdbool.h>
#include <stdlib.h>

#include <openssl/crypto.h>

static unsigned long openssl_count, openssl_first, openssl_failing;

/* Counts from now on; those from first on fail, so many of them. first 0: none does. */
static inline void openssl_allocations_begin(unsigned long first, unsigned long failing) {
  openssl_count = 0;
  openssl_first = first;
  openssl_failing = failing;
}

static inline bool openssl_runs_out(void) {
  openssl_count++;
  return openssl_first > 0 && openssl_count >= openssl_first && openssl_count - openssl_first < openssl_failing;
}

static inline void *openssl_allocate(size_t size, const char *file, int line) {
  (void)file, (void)line;
  return openssl_runs_out() ? NULL : malloc(size);
}
static inline void *openssl_reallocate(void *old, size_t size, const char *file, int line) {
  (void)file, (void)line;
  return openssl_runs_out() ? NULL : realloc(old, size);
}
static inline void openssl_release(void *memory, const char *file, int line) {
  (void)file, (void)line;
  free(memory);
}

/* false: OpenSSL has allocated something already. */
static inline bool openssl_allocator_install(void) { return CRYPTO_set_mem_functions(openssl_allocate, openssl_reallocate, openssl_release) == 1; }

#endif
