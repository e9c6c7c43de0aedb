/* A bounded walk over a DNS message that trusts no octet of it. */
#include <string.h>
#include <strings.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/tsig_wire.h"

enum { TYPE_TSIG = 250, CLASS_ANY = 255, POINTER = 0xc0 };

static const struct tsig_hash hashes[] = {
    {TSIG_HMAC_SHA256, "hmac-sha256", "SHA256", 32},
    {TSIG_HMAC_SHA384, "hmac-sha384", "SHA384", 48},
    {TSIG_HMAC_SHA512, "hmac-sha512", "SHA512", 64},
};

const struct tsig_hash *tsig_hash_find(enum tsig_algorithm algorithm) {
  for (size_t i = 0; i < ARRAY_SIZE(hashes); i++)
    if (hashes[i].algorithm == algorithm) return &hashes[i];
  return NULL;
}

const struct tsig_hash *tsig_hash_find_name(const char *name, size_t size) {
  if (size && name[size - 1] == '.') size--;
  for (size_t i = 0; i < ARRAY_SIZE(hashes); i++)
    if (size == strlen(hashes[i].name) && strncasecmp(name, hashes[i].name, size) == 0) return &hashes[i];
  return NULL;
}

static uint8_t lower(uint8_t octet) {
  return octet >= 'A' && octet <= 'Z' ? (uint8_t)(octet + ('a' - 'A')) : octet;
}

/* Adds one label, or the root's for size 0. false: the name grows too long. */
static bool name_add_label(struct tsig_name *name, const uint8_t *label, size_t size) {
  if (size > TSIG_WIRE_LABEL_MAX || name->size + 1 + size > TSIG_WIRE_NAME_MAX) return false;
  name->octets[name->size++] = (uint8_t)size;
  for (size_t i = 0; i < size; i++) name->octets[name->size++] = lower(label[i]);
  return true;
}

bool tsig_name_from_text(const char *text, struct tsig_name *ret_name) {
  struct tsig_name name = {.size = 0};
  for (const char *label = text; *label;) {
    size_t size = strcspn(label, ".");
    if (!size || !name_add_label(&name, (const uint8_t *)label, size)) return false;
    label += size;
    if (*label == '.') label++;
  }
  if (!name_add_label(&name, NULL, 0)) return false;
  *ret_name = name;
  return true;
}

bool tsig_name_equal(const struct tsig_name *a, const struct tsig_name *b) {
  return a->size == b->size && memcmp(a->octets, b->octets, a->size) == 0;
}

/* A pointer ends a name that is only skipped: where it leads is of interest to nobody. */
static void skip_name(struct reader *reader) {
  while (!reader->failed) {
    uint8_t length = reader_u8(reader);
    if ((length & POINTER) == POINTER) {
      reader_u8(reader);
      return;
    }
    if (length > TSIG_WIRE_LABEL_MAX) reader->failed = true;
    if (length == 0) return;
    reader_octets(reader, length);
  }
}

/* Each pointer must lead to before all that was read of this name so far, so that the way back ends (RFC 1035 4.1.4: "a prior
 * occurrence"). */
static bool read_name(struct reader *reader, struct tsig_name *ret_name) {
  struct reader cursor = *reader;
  size_t barrier = reader->position;
  bool jumped = false;
  ret_name->size = 0;
  for (;;) {
    uint8_t length = reader_u8(&cursor);
    if ((length & POINTER) == POINTER) {
      size_t target = (size_t)(length & ~POINTER & 0xff) << 8 | reader_u8(&cursor);
      if (cursor.failed || target >= barrier) return false;
      if (!jumped) reader->position = cursor.position;
      jumped = true;
      barrier = target;
      cursor.position = target;
      continue;
    }
    const uint8_t *label = length ? reader_octets(&cursor, length) : NULL;
    if (cursor.failed || !name_add_label(ret_name, label, length)) return false;
    if (length == 0) break;
  }
  if (!jumped) reader->position = cursor.position;
  return true;
}

static uint64_t read_u48(struct reader *reader) {
  uint64_t high = reader_u16(reader);
  return high << 32 | reader_u32(reader);
}

/* reader stands at the RR, which the walk found to lie within the message. */
static int read_record(struct reader reader, struct tsig_record *record, struct error *error) {
  if (!read_name(&reader, &record->name))
    return error_set(error, ERROR_PROTOCOL, "malformed TSIG record: bad key name");
  reader_u16(&reader); /* the type, known to be TSIG */
  uint16_t class = reader_u16(&reader);
  uint32_t ttl = reader_u32(&reader);
  if (class != CLASS_ANY || ttl != 0) /* RFC 8945 4.2 */
    return error_set(error, ERROR_PROTOCOL, "malformed TSIG record: class %u, TTL %u instead of ANY and 0", class, ttl);
  size_t rdata_size = reader_u16(&reader);
  reader.size = reader.position + rdata_size;
  if (!read_name(&reader, &record->algorithm))
    return error_set(error, ERROR_PROTOCOL, "malformed TSIG record: bad algorithm name");
  record->time_signed = read_u48(&reader);
  record->fudge = reader_u16(&reader);
  record->mac_size = reader_u16(&reader);
  record->mac = reader_octets(&reader, record->mac_size);
  record->original_id = reader_u16(&reader);
  record->error = reader_u16(&reader);
  record->other_size = reader_u16(&reader);
  record->other = reader_octets(&reader, record->other_size);
  if (reader.failed || reader.position != reader.size)
    return error_set(error, ERROR_PROTOCOL, "malformed TSIG record: its fields do not fill its length");
  record->present = true;
  return 0;
}

static void skip_questions(struct reader *reader, unsigned count) {
  for (unsigned i = 0; i < count && !reader->failed; i++) {
    skip_name(reader);
    reader_u32(reader); /* type and class */
  }
}

int tsig_record_find(const uint8_t *message, size_t size, struct tsig_record *ret_record, struct error *error) {
  struct reader reader = {.data = message, .size = size};
  reader_u32(&reader); /* id and flags */
  unsigned questions = reader_u16(&reader);
  unsigned records = reader_u16(&reader); /* the answer's; those of the other sections are added */
  records += reader_u16(&reader);
  uint16_t additional = reader_u16(&reader);
  records += additional;
  skip_questions(&reader, questions);
  struct tsig_record record = {.start = size, .other_records = additional};
  struct reader at_tsig = reader;
  for (unsigned i = 0; i < records && !reader.failed; i++) {
    struct reader start = reader;
    skip_name(&reader);
    uint16_t type = reader_u16(&reader);
    reader_octets(&reader, 6); /* class and TTL */
    reader_octets(&reader, reader_u16(&reader));
    if (type != TYPE_TSIG || reader.failed) continue;
    if (i + 1 != records || !additional)
      return error_set(error, ERROR_PROTOCOL, "malformed message: a TSIG record that is not the last of all");
    record.start = start.position;
    record.other_records = (uint16_t)(additional - 1);
    at_tsig = start;
  }
  if (reader.failed) return error_set(error, ERROR_PROTOCOL, "malformed message: cut short after %zu octets", size);
  if (reader.position != size)
    return error_set(error, ERROR_PROTOCOL, "malformed message: %zu octets left over", size - reader.position);
  int code = record.start < size ? read_record(at_tsig, &record, error) : 0;
  if (code == 0) *ret_record = record;
  return code;
}
