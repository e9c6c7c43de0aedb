/* Selectors: date-stamped names made from a template, in UTC (RFC 6376 3.1). */
#ifndef DKIMROLL_SELECTOR_H
#define DKIMROLL_SELECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"

enum {
  SELECTOR_SIZE = 64,     /* one label: at most 63 octets (RFC 1035 2.3.4), and the final NUL */
  DNS_NAME_TEXT_SIZE = 256, /* a name without final dot in text, all letters: at most 253 octets, and the NUL */
  SELECTOR_NUMBER_MAX = 999, /* -2 ... -999 for further keys of one day */
};

/* %V is the ISO week without its year: near New Year it may repeat a selector of the same %Y, which "-2" then makes unique. */

/* Checks a template: only %Y %m %d %H %M %j %V, lower case letters, digits and inner hyphens, and room for "-999" in 63
 * octets. ERROR_INVALID says what would be right. A template without any field is valid: "-2" and so on make it unique. */
int selector_check_template(const char *template_text, struct error *error) ERROR_USE_RESULT;

/* The selector of template at now (UTC seconds); number 1: bare, n >= 2: "-n" appended. ERROR_INVALID, ERROR_LIMIT. */
int selector_make(const char *template_text, int64_t now, unsigned number, char ret_selector[SELECTOR_SIZE],
                  struct error *error) ERROR_USE_RESULT;

/* "<selector>._domainkey.<domain>" in lower case; the selector may have several labels (RFC 6376 3.1), as imported ones do. ERROR_INVALID if a label or the whole name is too long or malformed. */
int selector_owner_name(const char *selector, const char *domain, char ret_name[DNS_NAME_TEXT_SIZE], struct error *error)
    ERROR_USE_RESULT;

/* A domain that can be a d=: at least two labels of letters, digits and inner hyphens (A-labels for others), at most 63 octets a
 * label, short enough that a selector of 63 octets still fits. Says what is wrong. */
int selector_check_domain(const char *domain, struct error *error) ERROR_USE_RESULT;

#endif
