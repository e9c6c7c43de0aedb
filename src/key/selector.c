#include "dkimroll/selector.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "dkimroll/text.h"

enum {
  LABEL_MAX = 63,                           /* RFC 1035 2.3.4 */
  NAME_MAX_OCTETS = DNS_NAME_TEXT_SIZE - 3, /* 255 octets on the wire are 253 in text */
  NUMBER_ROOM = 4,                          /* "-999" */
  SHOWN_SIZE = 320,                         /* outside text in messages */
  DOMAIN_MAX = NAME_MAX_OCTETS - LABEL_MAX - (int)sizeof("._domainkey.") + 1,
};

/* The last second of the year 9999: beyond it %Y has five digits. */
#define MOMENT_MAX INT64_C(253402300799)

#define FIELDS_REMEDY "the fields are %%Y %%m %%d %%H %%M %%j %%V, all in UTC"

/* Digits that a field expands to; 0: no field of ours. */
static size_t field_width(char field) {
  switch (field) {
  case 'Y': return 4;
  case 'j': return 3;
  case 'm':
  case 'd':
  case 'H':
  case 'M':
  case 'V': return 2;
  default: return 0;
  }
}

static bool is_lower(char octet) {
  return octet >= 'a' && octet <= 'z';
}
static bool is_digit(char octet) {
  return octet >= '0' && octet <= '9';
}
static bool is_letter(char octet) {
  return is_lower(octet) || (octet >= 'A' && octet <= 'Z');
}

static int refuse_octet(const char *shown, char octet, struct error *error) {
  if (octet == '_' || octet == '.' || octet == ' ' || is_letter(octet)) {
    error_set(error, ERROR_INVALID, "selector template \"%s\" holds '%c'", shown, octet);
  } else {
    error_set(error, ERROR_INVALID, "selector template \"%s\" holds something else than letters, digits and hyphens",
              shown);
  }
  (void)error_remedy(error, "use lower case letters, digits and hyphens between them; " FIELDS_REMEDY);
  return ERROR_INVALID;
}

int selector_check_template(const char *template_text, struct error *error) {
  char shown[SHOWN_SIZE];
  text_printable(template_text, strlen(template_text), shown, sizeof(shown));
  size_t length = 0;
  for (const char *at = template_text; *at; at++) {
    if (*at != '%') {
      if (!is_lower(*at) && !is_digit(*at) && *at != '-') return refuse_octet(shown, *at, error);
      length++;
      continue;
    }
    const size_t width = field_width(at[1]);
    if (width == 0) {
      error_set(error, ERROR_INVALID, "selector template \"%s\": the %% at character %zu begins no known field", shown,
                (size_t)(at - template_text) + 1);
      (void)error_remedy(error, FIELDS_REMEDY);
      return ERROR_INVALID;
    }
    length += width;
    at++;
  }
  if (length == 0 || template_text[0] == '-' || template_text[strlen(template_text) - 1] == '-') {
    error_set(error, ERROR_INVALID, "selector template \"%s\" is empty, or begins or ends with a hyphen", shown);
    (void)error_remedy(error, "begin and end with a letter, a digit or a field, as in server-%%Y%%m%%d");
    return ERROR_INVALID;
  }
  if (length + NUMBER_ROOM > LABEL_MAX) {
    error_set(error, ERROR_INVALID, "selector template \"%s\" makes selectors of %zu octets", shown, length);
    (void)error_remedy(error, "at most %d fit: a label has 63 octets, and \"-%d\" must find room",
                       LABEL_MAX - NUMBER_ROOM, SELECTOR_NUMBER_MAX);
    return ERROR_INVALID;
  }
  return 0;
}

/* Writes one field and returns its width. strftime is called with literals only: a template never becomes a format string. */
static size_t write_field(char field, const struct tm *moment, char *at, size_t size) {
  switch (field) {
  case 'Y': return strftime(at, size, "%Y", moment);
  case 'm': return strftime(at, size, "%m", moment);
  case 'd': return strftime(at, size, "%d", moment);
  case 'H': return strftime(at, size, "%H", moment);
  case 'M': return strftime(at, size, "%M", moment);
  case 'j': return strftime(at, size, "%j", moment);
  default: return strftime(at, size, "%V", moment);
  }
}

int selector_make(const char *template_text, int64_t now, unsigned number, char ret_selector[SELECTOR_SIZE],
                  struct error *error) {
  const int checked = selector_check_template(template_text, error);
  if (checked < 0) return checked;
  if (number < 1 || number > SELECTOR_NUMBER_MAX) {
    error_set(error, ERROR_LIMIT, "no selector with number %u: 1 to %d are possible for one template and moment",
              number, SELECTOR_NUMBER_MAX);
    (void)error_remedy(error, "use a template that tells moments apart better, with %%H%%M");
    return ERROR_LIMIT;
  }
  const time_t seconds = now;
  struct tm moment;
  if (now < 0 || now > MOMENT_MAX || !gmtime_r(&seconds, &moment)) {
    return error_set(error, ERROR_INVALID, "no selector can be made for a moment outside of the years 1970 to 9999");
  }
  char selector[SELECTOR_SIZE];
  size_t used = 0;
  for (const char *at = template_text; *at; at++) {
    if (*at == '%') {
      used += write_field(*++at, &moment, selector + used, sizeof(selector) - used);
    } else {
      selector[used++] = *at;
    }
  }
  selector[used] = '\0';
  if (number > 1) snprintf(selector + used, sizeof(selector) - used, "-%u", number);
  memcpy(ret_selector, selector, sizeof(selector));
  return 0;
}

/* What is wrong with one label, as the end of a sentence that begins with its name; NULL: nothing. */
static const char *label_fault(const char *label, size_t size) {
  if (size == 0) return "has an empty label (two dots in a row, or a dot at an end)";
  if (size > LABEL_MAX) return "has a label of more than 63 octets (RFC 1035 2.3.4)";
  for (size_t i = 0; i < size; i++) {
    if ((unsigned char)label[i] >= 0x80) return "holds letters beyond ASCII; write the A-label, xn--...";
    if (label[i] == '_') return "holds an underscore, which neither a domain nor a selector may (RFC 6376 3.1)";
    if (label[i] == '*') return "holds a wildcard; each domain has keys of its own";
    if (!is_letter(label[i]) && !is_digit(label[i]) && label[i] != '-') {
      return "holds something else than letters, digits, hyphens and dots";
    }
  }
  if (label[0] == '-' || label[size - 1] == '-') return "has a label that begins or ends with a hyphen";
  return NULL;
}

/* Checks all labels of name; ret_labels counts them, ret_last is the last one. */
static const char *name_fault(const char *name, size_t *ret_labels, const char **ret_last) {
  const char *label = name;
  *ret_labels = 0;
  for (;;) {
    const size_t size = strcspn(label, ".");
    const char *fault = label_fault(label, size);
    if (fault) return fault;
    ++*ret_labels;
    *ret_last = label;
    if (label[size] == '\0') return NULL;
    label += size + 1;
  }
}

static int refuse_name(const char *what, const char *name, const char *fault, struct error *error) {
  char shown[SHOWN_SIZE];
  return error_set(error, ERROR_INVALID, "%s \"%s\" %s", what, text_printable(name, strlen(name), shown, sizeof(shown)),
                   fault);
}

int selector_owner_name(const char *selector, const char *domain, char ret_name[DNS_NAME_TEXT_SIZE],
                        struct error *error) {
  size_t labels;
  const char *last;
  const char *fault = name_fault(selector, &labels, &last);
  if (fault) return refuse_name("selector", selector, fault, error);
  fault = name_fault(domain, &labels, &last);
  if (fault) return refuse_name("domain", domain, fault, error);
  char name[DNS_NAME_TEXT_SIZE];
  const int length = snprintf(name, sizeof(name), "%s._domainkey.%s", selector, domain);
  if (length < 0 || length > NAME_MAX_OCTETS) {
    return error_set(error, ERROR_INVALID,
                     "the name of selector \"%s\" at domain \"%s\" has %d octets, more than the 253 of DNS", selector,
                     domain, length);
  }
  text_lower(name);
  memcpy(ret_name, name, sizeof(name));
  return 0;
}

int selector_check_domain(const char *domain, struct error *error) {
  size_t labels;
  const char *last;
  const char *fault = name_fault(domain, &labels, &last);
  if (!fault && labels < 2) fault = "has only one label; a domain that signs has two or more, as example.com";
  if (!fault && strlen(domain) > DOMAIN_MAX) fault = "is too long: at most 178 octets leave room for a selector of 63";
  if (!fault && last[strspn(last, "0123456789")] == '\0') fault = "is an address and not a domain";
  return fault ? refuse_name("domain", domain, fault, error) : 0;
}
