/* Domain names between text and wire, for the message module's own files. Text is what message.h says: lower case, no final dot, "" is the root. */
#ifndef DKIMROLL_MESSAGE_NAME_H
#define DKIMROLL_MESSAGE_NAME_H

#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"
#include "dkimroll/selector.h"

enum { MESSAGE_NAME_WIRE_MAX = 255 /* RFC 1035 2.3.4 */ };

struct ldns_struct_rdf;

/* ERROR_PROTOCOL: longer than our text buffers (only names full of escapes are). */
int message_name_text(const struct ldns_struct_rdf *name, char ret_text[DNS_NAME_TEXT_SIZE],
                      struct error *error) ERROR_USE_RESULT;
/* Lower case on the wire, uncompressed. ERROR_INVALID: not a domain name. */
int message_name_wire(const char *text, uint8_t ret_wire[MESSAGE_NAME_WIRE_MAX], size_t *ret_size,
                      struct error *error) ERROR_USE_RESULT;
/* Any spelling as the canonical text. ERROR_INVALID: not a domain name. */
int message_name_canonical(const char *text, char ret_text[DNS_NAME_TEXT_SIZE], struct error *error) ERROR_USE_RESULT;

#endif
