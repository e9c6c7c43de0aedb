#include "fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

void fuzz_fail(const char *file, int line, const char *condition, const char *format, ...) {
  va_list arguments;
  fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, condition);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  abort();
}

bool fuzz_is_printable(const char *text) {
  for (const unsigned char *p = (const unsigned char *)text; *p; p++)
    if ((*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f || (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0))
      return false;
  return true;
}

void fuzz_expect_error(int result, const struct error *error) {
  FUZZ_HOLDS(result < 0, "a failure returned %d", result);
  FUZZ_HOLDS(error->code == result, "the code is %d, but %d was returned: %s", error->code, result, error->message);
  FUZZ_HOLDS(error->message[0] != '\0', "%s without a message", error_code_name(result));
  FUZZ_HOLDS(fuzz_is_printable(error->message), "a control character in: %s", error->message);
  FUZZ_HOLDS(fuzz_is_printable(error->remedy), "a control character in: %s", error->remedy);
  FUZZ_HOLDS(result != ERROR_INTERNAL, "an internal error: %s", error->message);
}

char *fuzz_text(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1);
  if (!text) abort();
  for (size_t i = 0; i < size; i++) text[i] = data[i] ? (char)data[i] : ' ';
  text[size] = '\0';
  return text;
}

struct fuzz_input fuzz_take(struct fuzz_input *input, size_t size) {
  struct fuzz_input piece = {.data = input->data, .size = size < input->size ? size : input->size};
  input->data += piece.size;
  input->size -= piece.size;
  return piece;
}

uint8_t fuzz_take_u8(struct fuzz_input *input) {
  struct fuzz_input piece = fuzz_take(input, 1);
  return piece.size > 0 ? piece.data[0] : 0;
}

uint16_t fuzz_take_u16(struct fuzz_input *input) {
  uint16_t high = fuzz_take_u8(input);
  return (uint16_t)(high << 8 | fuzz_take_u8(input));
}

struct fuzz_input fuzz_take_until(struct fuzz_input *input, uint8_t separator) {
  const uint8_t *found = input->size > 0 ? memchr(input->data, separator, input->size) : NULL;
  if (!found) return fuzz_take(input, input->size);
  struct fuzz_input piece = fuzz_take(input, (size_t)(found - input->data));
  fuzz_take(input, 1);
  return piece;
}

char *fuzz_take_text(struct fuzz_input *input, uint8_t separator) {
  struct fuzz_input piece = fuzz_take_until(input, separator);
  return fuzz_text(piece.data, piece.size);
}

EVP_PKEY *fuzz_key(unsigned number) {
  static EVP_PKEY *keys[2];
  uint8_t secret[32] = {1, 2, 3, (uint8_t)number};
  EVP_PKEY **key = &keys[number % 2];
  if (!*key) *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof secret);
  FUZZ_HOLDS(*key, "no key");
  return *key;
}
