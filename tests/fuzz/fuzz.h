/* For the fuzz targets: what they all need. A target checks properties besides memory and time; a property that does not hold ends the
 * program, so that libFuzzer keeps the input. */
#ifndef DKIMROLL_TESTS_FUZZ_H
#define DKIMROLL_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/buffer.h"
#include "dkimroll/error.h"

/* libFuzzer's entry point. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Prints what does not hold and where, and aborts. */
#define FUZZ_HOLDS(condition, ...)                                                                                     \
  do {                                                                                                                 \
    if (!(condition)) fuzz_fail(__FILE__, __LINE__, #condition, __VA_ARGS__);                                          \
  } while (0)

_Noreturn void fuzz_fail(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Nothing in text controls a terminal. */
bool fuzz_is_printable(const char *text);

/* A failure has its code in error, a message that is printable text, and a remedy that is, too. */
void fuzz_expect_error(int result, const struct error *error);

/* Octets of the fuzzer as a terminated string without NUL octets (each becomes a space), which the caller frees. */
char *fuzz_text(const uint8_t *data, size_t size);

/* Ed25519 keys that are always the same, so that a case is, too; 0 or 1. They live as long as the process. */
struct evp_pkey_st;
struct evp_pkey_st *fuzz_key(unsigned number);

/* Pieces of the fuzzer's octets, used up from the front: never fails, gives zeros and empty pieces at the end. */
struct fuzz_input {
  const uint8_t *data;
  size_t size;
};

uint8_t fuzz_take_u8(struct fuzz_input *input);
uint16_t fuzz_take_u16(struct fuzz_input *input);
/* At most size octets, borrowed. */
struct fuzz_input fuzz_take(struct fuzz_input *input, size_t size);
/* What stands before the next separator, which is dropped; all that is left without one. */
struct fuzz_input fuzz_take_until(struct fuzz_input *input, uint8_t separator);
/* The same as a terminated string that the caller frees. */
char *fuzz_take_text(struct fuzz_input *input, uint8_t separator);

#endif
