/* Key files as slices: the three readers of src/dns/tsig_key_text.c find name, algorithm and secret in the text without copying them, so that
 * no secret lies anywhere but in the text and in the key. For the TSIG module's own files. */
#ifndef DKIMROLL_TSIG_KEY_TEXT_H
#define DKIMROLL_TSIG_KEY_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "dkimroll/error.h"

/* A value in the text; data is NULL while it was not seen. */
struct tsig_slice {
  const char *data;
  size_t size;
  unsigned line; /* from 1 */
};

struct tsig_key_text {
  struct tsig_slice name, algorithm, secret;
};

/* place names the source in messages. ERROR_INVALID with line and remedy; messages quote nothing from the text, because in a file that is not
 * as it should be the secret may stand anywhere. All three slices are there on success. */
int tsig_key_text_find(const char *place, const char *text, size_t size, struct tsig_key_text *ret_found,
                       struct error *error) ERROR_USE_RESULT;

#endif
