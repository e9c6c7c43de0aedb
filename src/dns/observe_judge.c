#include "dkimroll/observe_judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

void observe_finding_release(struct observe_finding *finding) {
  free(finding->text);
  finding->text = NULL;
}

/* RRSIG RDATA (RFC 4034 3.1): type covered, algorithm, labels, original TTL, expiration, inception. The two moments are in serial number arithmetic. */
static void find_signature(const struct message_record *record, int64_t wall, struct observe_finding *finding) {
  struct reader reader = {.data = record->rdata, .size = record->rdata_size};
  const uint16_t covered = reader_u16(&reader);
  (void)reader_octets(&reader, 6);
  const uint32_t expiration = reader_u32(&reader), inception = reader_u32(&reader);
  if (reader.failed || covered != DNS_TYPE_TXT) return;
  const uint32_t now = (uint32_t)wall;
  const bool valid = (int32_t)(now - inception) >= 0 && (int32_t)(expiration - now) >= 0;
  finding->has_signature |= valid;
  finding->has_old_signature |= !valid;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static int find_in_record(const struct message_record *record, const char *owner, int64_t wall, struct observe_finding *finding, struct error *error) {
  const bool at_name = record->section == MESSAGE_ANSWER && text_equal(record->name, owner);
  uint32_t serial, minimum;
  struct error unused;
  if (at_name && record->type == DNS_TYPE_TXT) {
    finding->ttl = larger(finding->ttl, record->ttl);
    finding->ttl_largest = larger(finding->ttl_largest, record->ttl);
    if (finding->text_count++ == 0) return record_from_rdata(record->rdata, record->rdata_size, &finding->text, &finding->text_size, error);
  } else if (at_name && record->type == DNS_TYPE_CNAME) {
    finding->alias = true;
    finding->ttl_largest = larger(finding->ttl_largest, record->ttl);
  } else if (at_name && record->type == DNS_TYPE_RRSIG) {
    find_signature(record, wall, finding);
  } else if (record->section == MESSAGE_AUTHORITY && (record->type == DNS_TYPE_NSEC || record->type == DNS_TYPE_NSEC3)) {
    finding->ttl_largest = larger(finding->ttl_largest, record->ttl);
  } else if (record->section == MESSAGE_AUTHORITY && record->type == DNS_TYPE_SOA && message_rdata_soa(record, &serial, &minimum, &unused) == 0) {
    finding->ttl_negative = larger(finding->ttl_negative, minimum < record->ttl ? minimum : record->ttl);
  }
  return 0;
}

int observe_find(const struct message *message, const char *owner, int64_t wall, struct observe_finding *ret_finding, struct error *error) {
  struct observe_finding finding = {.rcode = message->rcode, .ttl = -1, .ttl_negative = -1, .ttl_largest = -1};
  finding.usable = message->authoritative && (message->rcode == DNS_NOERROR || message->rcode == DNS_NXDOMAIN);
  for (size_t i = 0; i < message->record_count; i++) {
    int result = find_in_record(&message->records[i], owner, wall, &finding, error);
    /* A TXT that cannot be read is still a TXT: it is counted, and never the wanted one. */
    if (result == ERROR_NO_MEMORY) {
      observe_finding_release(&finding);
      return result;
    }
  }
  *ret_finding = finding;
  return 0;
}

void observe_describe(const struct observe_finding *finding, char buffer[OBSERVE_ANSWER_TEXT_MAX]) {
  if (finding->rcode != DNS_NOERROR && finding->text_count == 0)
    text_copy(buffer, OBSERVE_ANSWER_TEXT_MAX, message_rcode_name(finding->rcode));
  else if (!finding->usable)
    text_copy(buffer, OBSERVE_ANSWER_TEXT_MAX, "not authoritative");
  else if (finding->text_count > 1)
    snprintf(buffer, OBSERVE_ANSWER_TEXT_MAX, "%zu TXT records", finding->text_count);
  else if (finding->text_count == 1)
    text_printable(finding->text ? finding->text : "", finding->text ? finding->text_size : 0, buffer, OBSERVE_ANSWER_TEXT_MAX);
  else
    text_copy(buffer, OBSERVE_ANSWER_TEXT_MAX, finding->alias ? "an alias (CNAME)" : "no TXT record");
}

static bool is_text(const struct observe_finding *finding, const char *text) {
  return text && finding->text && finding->text_size == strlen(text) && memcmp(finding->text, text, finding->text_size) == 0;
}

static enum observe_verdict judge_present(const struct observe_finding *finding, const struct observe_item *item, bool is_signed,
                                          char answer[OBSERVE_ANSWER_TEXT_MAX]) {
  if (finding->text_count != 1 || !is_text(finding, item->record)) {
    char other[OBSERVE_ANSWER_TEXT_MAX];
    if (finding->text_count != 1) return OBSERVE_WRONG;
    text_copy(other, sizeof other, answer);
    snprintf(answer, OBSERVE_ANSWER_TEXT_MAX, "another TXT: %.*s", OBSERVE_ANSWER_TEXT_MAX - 16, other);
    return OBSERVE_WRONG;
  }
  if (is_signed && !finding->has_signature) {
    text_copy(answer, OBSERVE_ANSWER_TEXT_MAX, finding->has_old_signature ? "signature (RRSIG) not valid now" : "not signed yet (no RRSIG)");
    return OBSERVE_WRONG;
  }
  return OBSERVE_RIGHT;
}

void observe_judge(const struct observe_finding *finding, enum observe_kind kind, const struct observe_item *item, bool is_signed,
                   struct observe_server *server) {
  observe_describe(finding, server->answer);
  server->ttl = finding->ttl;
  server->ttl_negative = finding->ttl_negative;
  if (!finding->usable)
    server->verdict = OBSERVE_SILENT;
  else if (kind == OBSERVE_PRESENT)
    server->verdict = judge_present(finding, item, is_signed, server->answer);
  else if (kind == OBSERVE_ABSENT)
    /* With several TXT only the first was read; ours is never one of several unless somebody added one, and then it is not gone. */
    server->verdict = finding->text_count > 1 || is_text(finding, item->record) || is_text(finding, item->record_also) ? OBSERVE_WRONG : OBSERVE_RIGHT;
  else
    server->verdict = OBSERVE_RIGHT;
}

bool observe_same(const struct observe_finding *a, const struct observe_finding *b) {
  if (a->rcode != b->rcode || a->text_count != b->text_count || a->alias != b->alias) return false;
  if (!a->text || !b->text) return a->text == b->text;
  return a->text_size == b->text_size && memcmp(a->text, b->text, a->text_size) == 0;
}
