/* Reading DNS messages. The header is read here, record by record by ldns_wire2rr: ldns_wire2pkt would leak what a hostile message repeats (two OPT,
 * two TSIG) and hides the sections of an UPDATE. */
#include <stdlib.h>
#include <string.h>

#include <stdbool.h> /* before ldns, whose own bool is a signed char in which 0x8000 becomes false */
#include <ldns/ldns.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/message.h"
#include "dkimroll/message_name.h"
#include "dkimroll/text.h"

enum {
  HEADER_SIZE = 12,
  RECORD_SIZE_MIN = 11,  /* root name, type, class, TTL, length: what bounds the record count of a message */
  SOA_NUMBERS_SIZE = 20, /* serial, refresh, retry, expire, minimum (RFC 1035 3.3.13) */
};

struct header {
  uint16_t id, flags;
  uint16_t counts[4]; /* by enum message_section */
};

static void rr_free(ldns_rr **rr) {
  ldns_rr_free(*rr);
}
static void rdf_free(ldns_rdf **rdf) {
  ldns_rdf_deep_free(*rdf);
}
static void rdata_free(ldns_buffer **buffer) {
  ldns_buffer_free(*buffer);
}
static void parse_free(struct message **message) {
  message_free(*message);
}

static bool read_header(const uint8_t *octets, size_t size, struct header *ret_header) {
  struct reader reader = {.data = octets, .size = size};
  ret_header->id = reader_u16(&reader);
  ret_header->flags = reader_u16(&reader);
  for (size_t i = 0; i < ARRAY_SIZE(ret_header->counts); i++) ret_header->counts[i] = reader_u16(&reader);
  return !reader.failed;
}

static int malformed(struct error *error, ldns_status status, size_t position) {
  if (status == LDNS_STATUS_MEM_ERR) return error_set(error, ERROR_NO_MEMORY, "reading a DNS message: out of memory");
  return error_set(error, ERROR_PROTOCOL, "DNS message malformed at octet %zu: %s", position,
                   ldns_get_errorstr_by_id(status));
}

/* RDATA with every name in it uncompressed, as ldns holds it. */
static int copy_rdata(const ldns_rr *rr, struct message_record *record, struct error *error) {
  CLEANUP(rdata_free) ldns_buffer *buffer = ldns_buffer_new(512);
  if (!buffer || ldns_rr_rdata2buffer_wire(buffer, rr) != LDNS_STATUS_OK)
    return error_set(error, ERROR_NO_MEMORY, "reading a DNS record: out of memory");
  size_t size = ldns_buffer_position(buffer);
  uint8_t *rdata = malloc(size ? size : 1);
  if (!rdata) return error_set(error, ERROR_NO_MEMORY, "reading a DNS record: out of memory");
  memcpy(rdata, ldns_buffer_begin(buffer), size);
  record->rdata = rdata;
  record->rdata_size = size;
  return 0;
}

static int add_record(struct message *message, enum message_section section, const ldns_rr *rr, struct error *error) {
  struct message_record *record = &message->records[message->record_count];
  uint32_t ttl = ldns_rr_ttl(rr);
  record->section = section;
  record->type = (uint16_t)ldns_rr_get_type(rr);
  record->rr_class = (uint16_t)ldns_rr_get_class(rr);
  record->ttl = ttl > INT32_MAX ? 0 : ttl; /* RFC 2181 8: the first bit set means zero */
  if (message_name_text(ldns_rr_owner(rr), record->name, error) < 0) return error->code;
  if (copy_rdata(rr, record, error) < 0) return error->code;
  message->record_count++;
  return 0;
}

static int read_record(struct message *message, enum message_section section, const ldns_rr *rr, struct error *error) {
  switch ((unsigned)ldns_rr_get_type(rr)) {
  case LDNS_RR_TYPE_OPT: /* RFC 6891 6.1.3: the upper 8 bits of the rcode */
    message->rcode |= (ldns_rr_ttl(rr) >> 24) << 4;
    return 0;
  case LDNS_RR_TYPE_TSIG: return 0; /* tsig.h reads it from the octets */
  default: return add_record(message, section, rr, error);
  }
}

static int read_question(struct message *message, const uint8_t *octets, size_t size, size_t *position,
                         struct error *error) {
  CLEANUP(rr_free) ldns_rr *rr = NULL;
  ldns_status status = ldns_wire2rr(&rr, octets, size, position, LDNS_SECTION_QUESTION);
  if (status != LDNS_STATUS_OK) return malformed(error, status, *position);
  message->question_type = (uint16_t)ldns_rr_get_type(rr);
  return message_name_text(ldns_rr_owner(rr), message->question_name, error);
}

/* The types that anything is concluded from. */
static bool is_of_use(const ldns_rr *rr) {
  static const ldns_rr_type types[] = {LDNS_RR_TYPE_TXT, LDNS_RR_TYPE_CNAME, LDNS_RR_TYPE_DNAME, LDNS_RR_TYPE_NS,
                                       LDNS_RR_TYPE_SOA, LDNS_RR_TYPE_A,     LDNS_RR_TYPE_AAAA, LDNS_RR_TYPE_RRSIG};
  for (size_t i = 0; i < ARRAY_SIZE(types); i++)
    if (ldns_rr_get_type(rr) == types[i]) return true;
  return false;
}

/* Where the RDATA of the record at position begins, whose owner name ldns has read. */
static size_t rdata_position(const struct reader *reader, size_t position) {
  enum { POINTER = 0xc0, TYPE_TO_LENGTH = 10 };
  while (reader->data[position] != 0 && reader->data[position] < POINTER) position += reader->data[position] + 1u;
  return position + (reader->data[position] < POINTER ? 1 : 2) + TYPE_TO_LENGTH;
}

/* ldns_wire2rdf passes over a field for which there is no memory, and says that all is well. Uncompressed, RDATA is never smaller than it was. */
static bool lacks_field(const ldns_rr *rr, size_t size) {
  size_t octets = 0;
  for (size_t i = 0; i < ldns_rr_rd_count(rr); i++) octets += ldns_rdf_size(ldns_rr_rdf(rr, i));
  return size > 0 && (octets < size || ldns_rr_rd_count(rr) < ldns_rr_descriptor_minimum(ldns_rr_descript(ldns_rr_get_type(rr))));
}

/* A record that lacks a field is read once more: if it lacks the same one again, it was sent like that. */
static int read_whole(struct reader *reader, ldns_rr **ret_rr, struct error *error) {
  const size_t begin = reader->position;
  size_t fields = 0;
  for (int attempt = 0; attempt < 2; attempt++) {
    CLEANUP(rr_free) ldns_rr *rr = NULL;
    reader->position = begin;
    const ldns_status status = ldns_wire2rr(&rr, reader->data, reader->size, &reader->position, LDNS_SECTION_ANSWER);
    if (status != LDNS_STATUS_OK) return malformed(error, status, reader->position);
    const size_t rdata = rdata_position(reader, begin), size = reader->position - rdata;
    const size_t announced = (size_t)reader->data[rdata - 2] << 8 | reader->data[rdata - 1];
    if (is_of_use(rr) && size != announced) return malformed(error, LDNS_STATUS_WIRE_RDATA_ERR, reader->position);
    if (!is_of_use(rr) || !lacks_field(rr, size)) {
      *ret_rr = TAKE_PTR(rr);
      return 0;
    }
    if (attempt == 1 && ldns_rr_rd_count(rr) == fields) return malformed(error, LDNS_STATUS_WIRE_RDATA_ERR, reader->position);
    fields = ldns_rr_rd_count(rr);
  }
  return malformed(error, LDNS_STATUS_MEM_ERR, begin);
}

static int read_section(struct message *message, enum message_section section, size_t count, struct reader *reader,
                        struct error *error) {
  for (size_t i = 0; i < count; i++) {
    CLEANUP(rr_free) ldns_rr *rr = NULL;
    if (read_whole(reader, &rr, error) < 0) return error->code;
    if (read_record(message, section, rr, error) < 0) return error->code;
  }
  return 0;
}

static int read_sections(struct message *message, const struct header *header, const uint8_t *octets, size_t size,
                         struct error *error) {
  struct reader reader = {.data = octets, .size = size, .position = HEADER_SIZE};
  if (header->counts[MESSAGE_QUESTION] > 1) /* RFC 9619 4 */
    return error_set(error, ERROR_PROTOCOL, "DNS message with %u questions", header->counts[MESSAGE_QUESTION]);
  if (header->counts[MESSAGE_QUESTION] == 1 && read_question(message, octets, size, &reader.position, error) < 0)
    return error->code;
  for (int section = MESSAGE_ANSWER; section <= MESSAGE_ADDITIONAL; section++)
    if (read_section(message, (enum message_section)section, header->counts[section], &reader, error) < 0)
      return error->code;
  return 0;
}

/* Room for as many records as the header promises, which the size of the message must make possible. false: see error. */
static bool allocate_records(struct message *message, const struct header *header, size_t size, struct error *error) {
  size_t count =
      (size_t)header->counts[MESSAGE_ANSWER] + header->counts[MESSAGE_AUTHORITY] + header->counts[MESSAGE_ADDITIONAL];
  size_t possible = (size - HEADER_SIZE) / RECORD_SIZE_MIN;
  if (count > possible && message->truncated) count = possible;
  if (count > possible) {
    error_set(error, ERROR_PROTOCOL, "DNS message of %zu octets announces %zu records", size, count);
  } else if (count > MESSAGE_RECORDS_MAX) {
    error_set(error, ERROR_PROTOCOL, "DNS message with %zu records, more than %d", count, MESSAGE_RECORDS_MAX);
  } else {
    message->records = calloc(count ? count : 1, sizeof *message->records);
    if (!message->records) error_set(error, ERROR_NO_MEMORY, "reading a DNS message: out of memory");
  }
  return message->records != NULL;
}

int message_parse(const uint8_t *octets, size_t size, struct message **ret_message, struct error *error) {
  struct error local;
  if (!error) error = &local;
  struct header header;
  if (size > LDNS_MAX_PACKETLEN || !read_header(octets, size, &header))
    return error_set(error, ERROR_PROTOCOL, "DNS message of %zu octets", size);
  CLEANUP(parse_free) struct message *message = calloc(1, sizeof *message);
  if (!message) return error_set(error, ERROR_NO_MEMORY, "reading a DNS message: out of memory");
  message->id = header.id;
  message->response = header.flags & 0x8000;
  message->opcode = (header.flags >> 11) & 0xf;
  message->authoritative = header.flags & 0x0400;
  message->truncated = header.flags & 0x0200;
  message->recursion_available = header.flags & 0x0080;
  message->rcode = header.flags & 0xf;
  if (!allocate_records(message, &header, size, error)) return error->code;
  /* What is left of a truncated message is not used anyway (RFC 2181 9), and some servers cut inside a record. */
  if (read_sections(message, &header, octets, size, error) < 0 &&
      !(error->code == ERROR_PROTOCOL && message->truncated))
    return error->code;
  *ret_message = TAKE_PTR(message);
  return 0;
}

void message_free(struct message *message) {
  if (!message) return;
  for (size_t i = 0; i < message->record_count; i++) free(message->records[i].rdata);
  free(message->records);
  free(message);
}

bool message_answers(const struct message *message, const struct message_query *query) {
  char name[DNS_NAME_TEXT_SIZE];
  if (!message->response || message->id != query->id || message->opcode != 0 || message->question_type != query->type) return false;
  /* As a rule it is written like that, and no memory is needed to see it: without any the answer would be taken for somebody else's. */
  if (text_equal(query->name, message->question_name)) return true;
  return message_name_canonical(query->name, name, NULL) == 0 && text_equal(name, message->question_name);
}

int message_rdata_name(const struct message_record *record, char ret_name[DNS_NAME_TEXT_SIZE], struct error *error) {
  CLEANUP(rdf_free) ldns_rdf *name = NULL;
  size_t position = 0;
  ldns_status status = ldns_wire2dname(&name, record->rdata, record->rdata_size, &position);
  if (status != LDNS_STATUS_OK) return malformed(error, status, position);
  return message_name_text(name, ret_name, error);
}

int message_rdata_soa(const struct message_record *record, uint32_t *ret_serial, uint32_t *ret_minimum,
                      struct error *error) {
  if (record->type != DNS_TYPE_SOA || record->rdata_size < SOA_NUMBERS_SIZE + 2)
    return error_set(error, ERROR_PROTOCOL, "%s: not a SOA record", record->name);
  struct reader serial = {.data = record->rdata + record->rdata_size - SOA_NUMBERS_SIZE, .size = 4};
  struct reader minimum = {.data = record->rdata + record->rdata_size - 4, .size = 4};
  *ret_serial = reader_u32(&serial);
  *ret_minimum = reader_u32(&minimum);
  return 0;
}
