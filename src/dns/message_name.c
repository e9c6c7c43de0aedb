/* Domain names in text and on the wire, and names of rcodes. */
#include <stdlib.h>
#include <string.h>

#include <stdbool.h> /* before ldns, whose own bool is a signed char in which 0x8000 becomes false */
#include <ldns/ldns.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/message.h"
#include "dkimroll/message_name.h"
#include "dkimroll/text.h"

static void rdf_free(ldns_rdf **rdf) {
  ldns_rdf_deep_free(*rdf);
}

int message_name_text(const ldns_rdf *name, char ret_text[DNS_NAME_TEXT_SIZE], struct error *error) {
  CLEANUP_FREE char *text = ldns_rdf2str(name);
  if (!text) return error_set(error, ERROR_NO_MEMORY, "reading a domain name: out of memory");
  size_t size = strlen(text);
  if (size && text[size - 1] == '.')
    text[size - 1] = '\0'; /* an escaped dot is never last: ldns always ends with the root's */
  if (strlen(text) >= DNS_NAME_TEXT_SIZE)
    return error_set(error, ERROR_PROTOCOL, "domain name of %zu characters, more than %d", strlen(text),
                     DNS_NAME_TEXT_SIZE - 1);
  text_lower(text);
  memcpy(ret_text, text, strlen(text) + 1);
  return 0;
}

static int parse_name(const char *text, ldns_rdf **ret_name, struct error *error) {
  ldns_rdf *name = NULL;
  ldns_status status = ldns_str2rdf_dname(&name, *text ? text : ".");
  /* ldns says that all is well, too, where it had no memory for the name that it had read. */
  if (status == LDNS_STATUS_MEM_ERR || (status == LDNS_STATUS_OK && !name)) return error_set(error, ERROR_NO_MEMORY, "reading a domain name: out of memory");
  if (status != LDNS_STATUS_OK) {
    char printable[DNS_NAME_TEXT_SIZE];
    return error_set(error, ERROR_INVALID, "\"%s\" is not a domain name: %s",
                     text_printable(text, strlen(text), printable, sizeof printable), ldns_get_errorstr_by_id(status));
  }
  ldns_dname2canonical(name);
  *ret_name = name;
  return 0;
}

int message_name_wire(const char *text, uint8_t ret_wire[MESSAGE_NAME_WIRE_MAX], size_t *ret_size,
                      struct error *error) {
  CLEANUP(rdf_free) ldns_rdf *name = NULL;
  int code = parse_name(text, &name, error);
  if (code < 0) return code;
  size_t size = ldns_rdf_size(name);
  if (size > MESSAGE_NAME_WIRE_MAX) return error_set(error, ERROR_INVALID, "\"%s\" is longer than 255 octets", text);
  memcpy(ret_wire, ldns_rdf_data(name), size);
  *ret_size = size;
  return 0;
}

int message_name_canonical(const char *text, char ret_text[DNS_NAME_TEXT_SIZE], struct error *error) {
  CLEANUP(rdf_free) ldns_rdf *name = NULL;
  int code = parse_name(text, &name, error);
  return code < 0 ? code : message_name_text(name, ret_text, error);
}

const char *message_name_parent(const char *name) {
  for (const char *at = name; *at; at++) {
    if (*at == '.') return at + 1;
    if (*at == '\\' && at[1]) at++; /* "\." is part of the label; of "\046" no digit is a dot */
  }
  return name + strlen(name);
}

bool message_name_below(const char *name, const char *ancestor) {
  while (!text_equal(name, ancestor)) {
    if (!*name) return false;
    name = message_name_parent(name);
  }
  return true;
}

const char *message_rcode_name(unsigned rcode) {
  static const char *const names[] = {"NOERROR",  "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
                                      "YXDOMAIN", "YXRRSET", "NXRRSET",  "NOTAUTH",  "NOTZONE"};
  if (rcode < ARRAY_SIZE(names)) return names[rcode];
  return rcode == 16 ? "BADVERS" : rcode == 23 ? "BADCOOKIE" : "an unknown RCODE";
}
