#include "dkimroll/zone_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

void zone_hosts_release(struct zone_hosts *hosts) {
  free(TAKE_PTR(hosts->items));
  *hosts = (struct zone_hosts){0};
}

struct zone_host *zone_hosts_add(struct zone_hosts *hosts, const char *name) {
  for (size_t i = 0; i < hosts->count; i++)
    if (text_equal(hosts->items[i].name, name)) return &hosts->items[i];
  struct zone_host *items =
      hosts->count < ZONE_HOSTS_MAX ? reallocarray(hosts->items, hosts->count + 1, sizeof *items) : NULL;
  if (!items) {
    hosts->overflow |= hosts->count == ZONE_HOSTS_MAX;
    hosts->no_memory |= hosts->count < ZONE_HOSTS_MAX;
    return NULL;
  }
  hosts->items = items;
  struct zone_host *host = &items[hosts->count++];
  memset(host, 0, sizeof *host);
  text_copy(host->name, sizeof host->name, name);
  return host;
}

static void host_add_address(struct zone_hosts *hosts, struct zone_host *host, const struct message_record *record) {
  struct address address;
  const size_t size = record->type == DNS_TYPE_A ? 4 : 16;
  if ((record->type != DNS_TYPE_A && record->type != DNS_TYPE_AAAA) || record->rdata_size != size) return;
  address_from_octets(record->rdata, record->rdata_size, 53, &address);
  for (size_t i = 0; i < host->address_count; i++)
    if (address_equal(&host->addresses[i], &address)) return;
  if (host->address_count == ZONE_HOST_ADDRESSES_MAX)
    hosts->overflow = true;
  else
    host->addresses[host->address_count++] = address;
}

static void take_host(struct zone_hosts *hosts, const struct message *message, const char *name) {
  struct zone_host *host = zone_hosts_add(hosts, name);
  for (size_t i = 0; host && i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    if (record->section == MESSAGE_ADDITIONAL && text_equal(record->name, name)) host_add_address(hosts, host, record);
  }
}

void zone_hosts_take(struct zone_hosts *hosts, const struct message *message, const char *zone) {
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    char name[DNS_NAME_TEXT_SIZE];
    if (record->type != DNS_TYPE_NS || record->section == MESSAGE_ADDITIONAL || !text_equal(record->name, zone)) continue;
    /* A name that could be read as part of the message fails for want of memory alone. A server that was left out would never be missed. */
    if (message_rdata_name(record, name, NULL) == 0)
      take_host(hosts, message, name);
    else
      hosts->no_memory = true;
  }
}

void zone_hosts_take_addresses(struct zone_hosts *hosts, size_t host, const struct message *message, uint16_t type) {
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    if (record->section == MESSAGE_ANSWER && record->type == type) host_add_address(hosts, &hosts->items[host], record);
  }
}

size_t zone_hosts_count_addresses(const struct zone_hosts *hosts) {
  size_t count = 0;
  for (size_t i = 0; i < hosts->count; i++) count += hosts->items[i].address_count;
  return count;
}

const struct message_record *zone_read_soa(const struct message *message, const char *name) {
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    if (record->type == DNS_TYPE_SOA && record->section != MESSAGE_ADDITIONAL && message_name_below(name, record->name))
      return record;
  }
  return NULL;
}

/* RFC 6672 2.2: the DNAME's owner at the end of name is replaced by its target. */
static bool substitute(const struct message_record *dname, const char *name, char ret_target[DNS_NAME_TEXT_SIZE]) {
  char target[DNS_NAME_TEXT_SIZE];
  const size_t kept = strlen(name) - strlen(dname->name); /* with its dot, unless the DNAME is at the root */
  if (message_rdata_name(dname, target, NULL)) return false;
  const int size = snprintf(ret_target, DNS_NAME_TEXT_SIZE, "%.*s%s", (int)kept, name, target);
  if (size < 0 || size > ZONE_NAME_MAX) ret_target[0] = '\0';
  return true;
}

bool zone_read_alias(const struct message *message, const char *name, char ret_target[DNS_NAME_TEXT_SIZE],
                     int64_t *ret_ttl) {
  const struct message_record *dname = NULL;
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    if (record->section != MESSAGE_ANSWER) continue;
    if (record->type == DNS_TYPE_CNAME && text_equal(record->name, name) &&
        message_rdata_name(record, ret_target, NULL) == 0) {
      *ret_ttl = record->ttl;
      return true;
    }
    if (record->type == DNS_TYPE_DNAME && !text_equal(record->name, name) && message_name_below(name, record->name))
      dname = record;
  }
  if (!dname || !substitute(dname, name, ret_target)) return false;
  *ret_ttl = dname->ttl;
  return true;
}

const struct message_record *zone_read_referral(const struct message *message, const char *zone, const char *name) {
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    if (record->section == MESSAGE_AUTHORITY && record->type == DNS_TYPE_NS && message_name_below(name, record->name) &&
        message_name_below(record->name, zone) && !text_equal(record->name, zone))
      return record;
  }
  return NULL;
}

bool zone_read_signature(const struct message *message, const char *name, uint16_t type) {
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    struct reader reader = {.data = record->rdata, .size = record->rdata_size};
    if (record->type == DNS_TYPE_RRSIG && text_equal(record->name, name) && reader_u16(&reader) == type) return true;
  }
  return false;
}

const char *zone_domain_of(const char *name) {
  static const char mark[] = "_domainkey.";
  const char *found = NULL;
  for (const char *label = name; *label; label = message_name_parent(label))
    if (text_starts(label, mark)) found = label + strlen(mark);
  return found;
}
