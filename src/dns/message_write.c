/* Writing DNS messages: queries and updates (RFC 2136). Straight into a bounded buffer, because ldns aborts the process on an update that grows too large; of
 * compression (RFC 1035 4.1.4) only what pays: names below the zone point at the zone section. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/message.h"
#include "dkimroll/message_name.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

enum {
  HEADER_SIZE = 12,
  MESSAGE_SIZE_MAX = 65535,
  CLASS_IN = 1,
  CLASS_NONE = 254,
  TYPE_OPT = 41,
  FLAG_RECURSION_DESIRED = 0x0100,
  FLAGS_UPDATE = 5 << 11, /* opcode 5, nothing else: RD stays clear (RFC 2136 2.2) */
  EDNS_DNSSEC_OK = 0x8000,
  POINTER_TO_ZONE = 0xc000 | HEADER_SIZE, /* the zone's name is the first thing after the header */
};

static void add_header(struct buffer *buffer, uint16_t id, uint16_t flags, const uint16_t counts[4]) {
  buffer_add_u16(buffer, id);
  buffer_add_u16(buffer, flags);
  for (int i = 0; i < 4; i++) buffer_add_u16(buffer, counts[i]);
}

static int copy_out(struct buffer *buffer, uint8_t *octets, size_t capacity, size_t *ret_size, struct error *error) {
  size_t size = buffer->size;
  bool failed = buffer->failed;
  if (!failed && size <= capacity) memcpy(octets, buffer->data, size);
  buffer_release(buffer);
  if (failed) return error_set(error, ERROR_NO_MEMORY, "writing a DNS message: out of memory");
  if (size > capacity)
    return error_set(error, ERROR_LIMIT, "DNS message of %zu octets does not fit into %zu", size, capacity);
  *ret_size = size;
  return 0;
}

int message_build_query(const struct message_query *query, uint8_t *octets, size_t capacity, size_t *ret_size,
                        struct error *error) {
  uint8_t name[MESSAGE_NAME_WIRE_MAX];
  size_t name_size;
  int code = message_name_wire(query->name, name, &name_size, error);
  if (code < 0) return code;
  struct buffer buffer = BUFFER_WITH_MAXIMUM(MESSAGE_QUERY_MAX);
  add_header(&buffer, query->id, query->recursion_desired ? FLAG_RECURSION_DESIRED : 0, (uint16_t[]){1, 0, 0, 1});
  buffer_add(&buffer, name, name_size);
  buffer_add_u16(&buffer, query->type);
  buffer_add_u16(&buffer, CLASS_IN);
  buffer_add_u8(&buffer,
                0); /* OPT (RFC 6891 6.1.2): root, type, payload size, extended rcode and version, flags, no options */
  buffer_add_u16(&buffer, TYPE_OPT);
  buffer_add_u16(&buffer, MESSAGE_EDNS_SIZE);
  buffer_add_u32(&buffer, query->dnssec_ok ? EDNS_DNSSEC_OK : 0);
  buffer_add_u16(&buffer, 0);
  return copy_out(&buffer, octets, capacity, ret_size, error);
}

/* The sections are written as they grow: a record is only appended, so that nothing needs to be kept twice. */
struct message_update {
  uint16_t id;
  char zone[DNS_NAME_TEXT_SIZE];
  uint8_t zone_wire[MESSAGE_NAME_WIRE_MAX];
  size_t zone_wire_size;
  struct buffer prerequisites, changes;
  uint16_t prerequisite_count, change_count;
};

int message_update_new(const char *zone, uint16_t id, struct message_update **ret_update, struct error *error) {
  struct message_update *update = calloc(1, sizeof *update);
  if (!update) return error_set(error, ERROR_NO_MEMORY, "writing a DNS update: out of memory");
  int code = message_name_wire(zone, update->zone_wire, &update->zone_wire_size, error);
  if (code == 0) code = message_name_canonical(zone, update->zone, error);
  if (code < 0) {
    free(update);
    return code;
  }
  update->id = id;
  update->prerequisites = update->changes = BUFFER_WITH_MAXIMUM(MESSAGE_SIZE_MAX);
  *ret_update = update;
  return 0;
}

void message_update_free(struct message_update *update) {
  if (!update) return;
  buffer_release(&update->prerequisites);
  buffer_release(&update->changes);
  free(update);
}

/* One record of an update, its RDATA as it goes on the wire. */
struct update_record {
  const char *name;
  uint16_t type;
  uint16_t rr_class;
  uint32_t ttl;
  const uint8_t *rdata;
  size_t rdata_size;
};

/* name as labels and, at the zone, a pointer. */
static int compress_name(const struct message_update *update, const char *text, uint8_t *ret_wire, size_t *ret_size,
                         struct error *error) {
  char name[DNS_NAME_TEXT_SIZE];
  int code = message_name_canonical(text, name, error);
  if (code == 0) code = message_name_wire(name, ret_wire, ret_size, error);
  if (code != 0) return code;
  if (!message_name_below(name, update->zone))
    return error_set(error, ERROR_INVALID, "%s does not lie in the zone %s", name, update->zone);
  if (update->zone_wire_size < 2) return 0; /* the root is shorter than a pointer to it */
  size_t prefix = *ret_size - update->zone_wire_size;
  ret_wire[prefix] = POINTER_TO_ZONE >> 8;
  ret_wire[prefix + 1] = POINTER_TO_ZONE & 0xff;
  *ret_size = prefix + 2;
  return 0;
}

static int add_record(const struct message_update *update, struct buffer *section, uint16_t *count,
                      const struct update_record *record, struct error *error) {
  uint8_t name[MESSAGE_NAME_WIRE_MAX];
  size_t name_size;
  int code = compress_name(update, record->name, name, &name_size, error);
  if (code != 0) return code;
  if (*count == UINT16_MAX || record->rdata_size > UINT16_MAX)
    return error_set(error, ERROR_LIMIT, "DNS update with more than %d records, or a record of more octets",
                     UINT16_MAX);
  buffer_add(section, name, name_size);
  buffer_add_u16(section, record->type);
  buffer_add_u16(section, record->rr_class);
  buffer_add_u32(section, record->ttl);
  buffer_add_u16(section, (uint16_t)record->rdata_size);
  if (record->rdata_size) buffer_add(section, record->rdata, record->rdata_size);
  if (section->no_memory) return error_set(error, ERROR_NO_MEMORY, "writing a DNS update: out of memory");
  if (section->failed) return error_set(error, ERROR_LIMIT, "DNS update larger than %d octets", MESSAGE_SIZE_MAX);
  ++*count;
  return 0;
}

/* The same with a TXT whose strings are still to be made. */
static int add_text_record(const struct message_update *update, struct buffer *section, uint16_t *count,
                           struct update_record record, const char *text, struct error *error) {
  CLEANUP_FREE uint8_t *rdata = NULL;
  int code = record_to_rdata(text, strlen(text), &rdata, &record.rdata_size, error);
  if (code < 0) return code;
  record.rdata = rdata;
  return add_record(update, section, count, &record, error);
}

int message_update_require_absent(struct message_update *update, const char *name, uint16_t type, struct error *error) {
  const struct update_record record = {.name = name, .type = type, .rr_class = CLASS_NONE};
  return add_record(update, &update->prerequisites, &update->prerequisite_count, &record, error);
}

int message_update_require_text(struct message_update *update, const char *name, const char *text,
                                struct error *error) {
  const struct update_record record = {.name = name, .type = DNS_TYPE_TXT, .rr_class = CLASS_IN};
  return add_text_record(update, &update->prerequisites, &update->prerequisite_count, record, text, error);
}

int message_update_require_rdata(struct message_update *update, const char *name, const uint8_t *rdata,
                                 size_t rdata_size, struct error *error) {
  const struct update_record record = {
      .name = name, .type = DNS_TYPE_TXT, .rr_class = CLASS_IN, .rdata = rdata, .rdata_size = rdata_size};
  return add_record(update, &update->prerequisites, &update->prerequisite_count, &record, error);
}

int message_update_add_text(struct message_update *update, const char *name, uint32_t ttl, const char *text,
                            struct error *error) {
  const struct update_record record = {.name = name, .type = DNS_TYPE_TXT, .rr_class = CLASS_IN, .ttl = ttl};
  return add_text_record(update, &update->changes, &update->change_count, record, text, error);
}

int message_update_delete_text(struct message_update *update, const char *name, const char *text, struct error *error) {
  const struct update_record record = {.name = name, .type = DNS_TYPE_TXT, .rr_class = CLASS_NONE};
  return add_text_record(update, &update->changes, &update->change_count, record, text, error);
}

int message_update_delete_rdata(struct message_update *update, const char *name, const uint8_t *rdata,
                                size_t rdata_size, struct error *error) {
  const struct update_record record = {
      .name = name, .type = DNS_TYPE_TXT, .rr_class = CLASS_NONE, .rdata = rdata, .rdata_size = rdata_size};
  return add_record(update, &update->changes, &update->change_count, &record, error);
}

size_t message_update_size(const struct message_update *update) {
  return HEADER_SIZE + update->zone_wire_size + 4 + update->prerequisites.size + update->changes.size;
}

int message_update_write(const struct message_update *update, uint8_t *octets, size_t capacity, size_t *ret_size,
                         struct error *error) {
  if (update->prerequisites.failed || update->changes.failed || message_update_size(update) > MESSAGE_SIZE_MAX)
    return error_set(error, ERROR_LIMIT, "DNS update larger than %d octets", MESSAGE_SIZE_MAX);
  struct buffer buffer = BUFFER_WITH_MAXIMUM(MESSAGE_SIZE_MAX);
  add_header(&buffer, update->id, FLAGS_UPDATE, (uint16_t[]){1, update->prerequisite_count, update->change_count, 0});
  buffer_add(&buffer, update->zone_wire, update->zone_wire_size);
  buffer_add_u16(&buffer, DNS_TYPE_SOA);
  buffer_add_u16(&buffer, CLASS_IN);
  if (update->prerequisites.size) buffer_add(&buffer, update->prerequisites.data, update->prerequisites.size);
  if (update->changes.size) buffer_add(&buffer, update->changes.data, update->changes.size);
  return copy_out(&buffer, octets, capacity, ret_size, error);
}
