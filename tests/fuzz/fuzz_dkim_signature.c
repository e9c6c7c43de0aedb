/* Signatures: any field against any record, message and time gets a verdict with a reason; and a message of the fuzzer's that is signed as RFC 6376 says verifies, and
 * does not verify any more with another letter in it.
 *
 * The first octet: 1 the message is signed here, 4 the letter that changes is in the header; then signature, record, header fields (a line
 * each, "\n" is CR LF where a blank follows) and body, with a NUL between. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/dkim_signer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/dkim_signature.h"
#include "dkimroll/prove.h"
#include "fuzz.h"

enum { SIGNED_HERE = 1, IN_HEADER = 4, NOW = 1800000000, FIELDS_MAX = 12 };

struct letter {
  char *fields[FIELDS_MAX];
  size_t field_count;
  char *body;
};

static void letter_release(struct letter *letter) {
  for (size_t i = 0; i < letter->field_count; i++) free(letter->fields[i]);
  free(letter->body);
}

static struct dkim_message message_of(const struct letter *letter, struct span spans[FIELDS_MAX]) {
  for (size_t i = 0; i < letter->field_count; i++)
    spans[i] = (struct span){letter->fields[i], strlen(letter->fields[i])};
  return (struct dkim_message){
      .fields = spans, .field_count = letter->field_count, .body = {letter->body, strlen(letter->body)}};
}

static enum dkim_verdict verify(const struct letter *letter, struct span signature, struct span record) {
  struct span spans[FIELDS_MAX];
  const struct dkim_message message = message_of(letter, spans);
  struct error error = {0};
  const enum dkim_verdict verdict = dkim_signature_verify(&message, signature, record, NOW, &error);
  FUZZ_HOLDS(verdict >= DKIM_VALID && verdict <= DKIM_FAILED, "verdict %d", (int)verdict);
  if (verdict == DKIM_VALID) return verdict;
  fuzz_expect_error(error.code, &error);
  FUZZ_HOLDS(error.code == ERROR_PROOF || error.code == ERROR_LIMIT, "%s", error.message);
  return verdict;
}

static void letter_read(struct fuzz_input *input, struct letter *letter) {
  struct fuzz_input header = fuzz_take_until(input, '\0');
  while (header.size > 0 && letter->field_count < FIELDS_MAX)
    letter->fields[letter->field_count++] = fuzz_take_text(&header, '\n');
  letter->body = fuzz_text(input->data, input->size);
}

/* Fields that a signer may meet: a name of letters, and a value in one line. */
static void letter_tame(struct letter *letter) {
  static const char *const names[] = {"From", "To", "Subject", "Date", "X-A", "from", "Message-ID"};
  for (size_t i = 0; i < letter->field_count; i++) {
    const char *old = letter->fields[i];
    struct buffer field = BUFFER_WITH_MAXIMUM(64 * 1024);
    buffer_format(&field, "%s:", names[i == 0 ? 0 : (unsigned char)old[0] % ARRAY_SIZE(names)]);
    for (const char *c = old; *c; c++) {
      if (*c == '\r')
        buffer_add_text(&field, "\r\n ");
      else
        buffer_add(&field, c, 1);
    }
    letter->fields[i] = buffer_take_text(&field);
    if (!letter->fields[i]) abort();
    free((char *)old);
  }
}

/* Another letter in the place of the first one from place on: white space is what the canonical forms forgive. */
static bool change_letter(char *text, size_t place) {
  const size_t size = strlen(text);
  for (size_t i = 0; i < size; i++) {
    char *c = &text[(place + i) % size];
    if (!isalnum((unsigned char)*c)) continue;
    *c = *c == 'x' ? 'y' : 'x';
    return true;
  }
  return false;
}

static void sign_and_change(struct letter *letter, uint8_t options, size_t place) {
  EVP_PKEY *key = fuzz_key(0);
  letter_tame(letter);
  if (letter->field_count == 0) return;
  CLEANUP_FREE char *record = dkim_signer_record(key);
  CLEANUP_FREE char *signature = dkim_signer_sign_plainly(key, "example.com", "s1", (const char *const *)letter->fields,
                                                          letter->field_count, letter->body);
  const struct span field = {signature, strlen(signature)}, text = {record, strlen(record)};
  FUZZ_HOLDS(verify(letter, field, text) == DKIM_VALID, "what was signed does not verify: %s", signature);
  /* Behind the colon. */
  char *changed = options & IN_HEADER ? strchr(letter->fields[0], ':') + 1 : letter->body;
  if (change_letter(changed, place))
    FUZZ_HOLDS(verify(letter, field, text) != DKIM_VALID, "a change is not seen: %s", changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  CLEANUP(letter_release) struct letter letter = {.field_count = 0};
  struct fuzz_input input = {data, size};
  const uint8_t options = fuzz_take_u8(&input);
  const struct fuzz_input signature = fuzz_take_until(&input, '\0');
  const struct fuzz_input record = fuzz_take_until(&input, '\0');
  letter_read(&input, &letter);
  /* Copies of their size, so that reading beside them is seen. */
  CLEANUP_FREE char *signature_copy = fuzz_text(signature.data, signature.size);
  CLEANUP_FREE char *record_copy = fuzz_text(record.data, record.size);
  if (options & SIGNED_HERE) {
    sign_and_change(&letter, options, signature.size);
    return 0;
  }
  char value[64];
  if (prove_signature_tag(signature_copy, "d", value, sizeof value))
    FUZZ_HOLDS(memchr(value, '\0', sizeof value), "a tag without an end");
  verify(&letter, (struct span){signature_copy, signature.size}, (struct span){record_copy, record.size});
  return 0;
}
