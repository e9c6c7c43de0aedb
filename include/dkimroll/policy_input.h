/* The octets of a policy file on their way into the YAML parser: streamed, so that a million domains cost no second copy; counted, digested, and refused
 * where they are not UTF-8 text, with line and column. */
#ifndef DKIMROLL_POLICY_INPUT_H
#define DKIMROLL_POLICY_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

#include "dkimroll/error.h"
#include "dkimroll/policy_report.h"

struct policy_input {
  int descriptor;      /* -1: text is the input */
  const uint8_t *text; /* borrowed; what is left of it */
  size_t text_size;
  EVP_MD_CTX *digest; /* borrowed; NULL: none. Gets every octet */
  struct policy_report *report;
  struct policy_place place; /* of the character that comes next */
  size_t total;              /* octets so far */
  uint32_t character;        /* what the octets of an unfinished character give so far */
  uint32_t smallest;         /* below it, its encoding is longer than need be (RFC 3629 3) */
  unsigned missing;          /* octets that it still needs */
  bool broken;               /* a finding or failure was noted: no more is given out */
  struct error failure;      /* reading failed (code), else code 0 */
};

/* Opens a regular file of at most POLICY_FILE_MAX octets. ERROR_NOT_FOUND, ERROR_PERMISSION, ERROR_INVALID, ERROR_LIMIT, ERROR_SYSTEM. */
int policy_input_open(struct policy_input *input, const char *path, struct policy_report *report, unsigned file,
                      struct error *error) ERROR_USE_RESULT;
/* Reads from memory instead. */
void policy_input_text(struct policy_input *input, const char *text, size_t size, struct policy_report *report,
                       unsigned file);
void policy_input_close(struct policy_input *input);

/* At most size checked octets into buffer; 0 at the end. false: broken. */
bool policy_input_read(struct policy_input *input, uint8_t *buffer, size_t size, size_t *ret_size);

#endif
