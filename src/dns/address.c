#include "dkimroll/transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "dkimroll/text.h"

void address_from_octets(const uint8_t *octets, size_t size, uint16_t port, struct address *ret_address) {
  memset(ret_address, 0, sizeof *ret_address);
  if (size == sizeof(struct in_addr)) {
    struct sockaddr_in *in = (struct sockaddr_in *)&ret_address->storage;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, octets, size);
    ret_address->size = sizeof *in;
  } else {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ret_address->storage;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    memcpy(&in6->sin6_addr, octets, sizeof in6->sin6_addr);
    ret_address->size = sizeof *in6;
  }
}

static int refuse(const char *text, struct error *error) {
  error_set(error, ERROR_INVALID, "\"%s\" is not an address", text);
  return error_remedy(error, "write 192.0.2.53, 192.0.2.53:5300, 2001:db8::53 or [2001:db8::53]:5300");
}

/* Splits "host:port" and "[host]:port"; a bare IPv6 address has more than one colon and no brackets. */
static bool split_port(const char *text, char *host, size_t size, long long *port) {
  const char *colon = strrchr(text, ':');
  if (text[0] == '[') {
    const char *end = strchr(text, ']');
    if (!end || (size_t)(end - text) > size) return false;
    memcpy(host, text + 1, (size_t)(end - text - 1));
    host[end - text - 1] = '\0';
    if (end[1] == '\0') return true;
    return end[1] == ':' && text_parse_number(end + 2, 1, 65535, port);
  }
  if (!colon || strchr(text, ':') != colon) return text_copy(host, size, text);
  if ((size_t)(colon - text) >= size) return false;
  memcpy(host, text, (size_t)(colon - text));
  host[colon - text] = '\0';
  return text_parse_number(colon + 1, 1, 65535, port);
}

int address_parse(const char *text, uint16_t default_port, struct address *ret_address, struct error *error) {
  char host[INET6_ADDRSTRLEN];
  long long port = default_port;
  uint8_t octets[sizeof(struct in6_addr)];
  if (!split_port(text, host, sizeof host, &port)) return refuse(text, error);
  if (text[0] != '[' && inet_pton(AF_INET, host, octets) == 1)
    address_from_octets(octets, sizeof(struct in_addr), (uint16_t)port, ret_address);
  else if (inet_pton(AF_INET6, host, octets) == 1)
    address_from_octets(octets, sizeof octets, (uint16_t)port, ret_address);
  else
    return refuse(text, error);
  return 0;
}

const char *address_format(const struct address *address, char buffer[ADDRESS_TEXT_SIZE]) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (address->storage.ss_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->storage;
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
    snprintf(buffer, ADDRESS_TEXT_SIZE, "[%s]:%u", host, ntohs(in6->sin6_port));
  } else {
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->storage;
    inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
    snprintf(buffer, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(in->sin_port));
  }
  return buffer;
}

bool address_equal(const struct address *a, const struct address *b) {
  char text_a[ADDRESS_TEXT_SIZE], text_b[ADDRESS_TEXT_SIZE];
  if (a->storage.ss_family != b->storage.ss_family) return false;
  return text_equal(address_format(a, text_a), address_format(b, text_b));
}
