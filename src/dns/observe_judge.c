#include "dkimroll/observe_judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

enum { RRSIG_FIXED = 18 /* octets of RRSIG RDATA before the signer's name */ };

void observe_finding_release(struct observe_finding *finding) {
  for (size_t i = 0; finding->texts && i < finding->text_count && i < OBSERVE_TEXTS_MAX; i++)
    free(finding->texts[i].octets);
  free(TAKE_PTR(finding->texts));
}

/* RFC 4034 3.1: type covered, algorithm, labels, original TTL, expiration, inception, key tag, signer's name. The two
 * moments are compared in serial number arithmetic (3.1.5). */
static enum observe_signature read_signature(const struct message_record *record, const char *zone, int64_t wall) {
  struct reader reader = {.data = record->rdata, .size = record->rdata_size};
  struct message_record signer = {.type = DNS_TYPE_NS};
  char name[DNS_NAME_TEXT_SIZE];
  const uint16_t covered = reader_u16(&reader);
  (void)reader_octets(&reader, 6);
  const uint32_t expiration = reader_u32(&reader), inception = reader_u32(&reader), now = (uint32_t)wall;
  if (reader.failed || record->rdata_size <= RRSIG_FIXED || covered != DNS_TYPE_TXT) return OBSERVE_SIGNATURE_NONE;
  signer.rdata = record->rdata + RRSIG_FIXED;
  signer.rdata_size = record->rdata_size - RRSIG_FIXED;
  if (message_rdata_name(&signer, name, NULL) || !text_equal(name, zone)) return OBSERVE_SIGNATURE_FOREIGN;
  if ((int32_t)(expiration - now) < 0) return OBSERVE_SIGNATURE_EXPIRED;
  return (int32_t)(now - inception) < 0 ? OBSERVE_SIGNATURE_EARLY : OBSERVE_SIGNATURE_VALID;
}

static int add_text(struct observe_finding *finding, const struct message_record *record, struct error *error) {
  if (finding->text_count++ >= OBSERVE_TEXTS_MAX) return 0;
  if (!finding->texts) finding->texts = calloc(OBSERVE_TEXTS_MAX, sizeof *finding->texts);
  if (!finding->texts) {
    finding->text_count = 0;
    return error_set(error, ERROR_NO_MEMORY, "out of memory for an answer");
  }
  struct observe_text *text = &finding->texts[finding->text_count - 1];
  struct error unreadable = {0};
  int result = record_from_rdata(record->rdata, record->rdata_size, &text->octets, &text->size, &unreadable);
  /* What cannot be read is still a TXT: it counts, and is never the wanted one. That is no error of the answer. */
  if (result != ERROR_NO_MEMORY) return 0;
  if (error) *error = unreadable;
  return result;
}

static int take_answer(const struct message_record *record, const char *owner, const char *zone, int64_t wall,
                       struct observe_finding *finding, struct error *error) {
  const bool at_name = text_equal(record->name, owner);
  if (at_name && record->type == DNS_TYPE_TXT) {
    finding->ttl = time_max(finding->ttl, record->ttl);
    finding->ttl_largest = time_max(finding->ttl_largest, record->ttl);
    return add_text(finding, record, error);
  }
  if (at_name && record->type == DNS_TYPE_CNAME) {
    if (message_rdata_name(record, finding->alias, NULL)) text_copy(finding->alias, sizeof finding->alias, "?");
    finding->ttl_largest = time_max(finding->ttl_largest, record->ttl);
  } else if (record->type == DNS_TYPE_DNAME && message_name_below(owner, record->name)) {
    finding->ttl_largest = time_max(finding->ttl_largest, record->ttl);
  } else if (at_name && record->type == DNS_TYPE_RRSIG) {
    const enum observe_signature signature = read_signature(record, zone, wall);
    if (signature > finding->signature) finding->signature = signature;
  }
  return 0;
}

static void take_authority(const struct message_record *record, struct observe_finding *finding) {
  uint32_t serial = 0, minimum = 0;
  if (record->type == DNS_TYPE_NSEC || record->type == DNS_TYPE_NSEC3)
    finding->ttl_largest = time_max(finding->ttl_largest, record->ttl); /* RFC 8198: caches answer from it */
  else if (record->type == DNS_TYPE_SOA && message_rdata_soa(record, &serial, &minimum, NULL) == 0)
    finding->ttl_negative = time_max(finding->ttl_negative, minimum < record->ttl ? minimum : record->ttl);
}

static int compare_texts(const void *a, const void *b) {
  const struct observe_text *left = a, *right = b;
  const size_t size = left->size < right->size ? left->size : right->size;
  const int order = size > 0 && left->octets && right->octets ? memcmp(left->octets, right->octets, size) : 0;
  if (order != 0) return order;
  return (left->size > right->size) - (left->size < right->size);
}

int observe_find(const struct message *message, const char *owner, const char *zone, int64_t wall,
                 struct observe_finding *ret_finding, struct error *error) {
  struct observe_finding finding = {.rcode = message->rcode,
                                    .authoritative = message->authoritative,
                                    .ttl = -1,
                                    .ttl_negative = -1,
                                    .ttl_largest = -1};
  finding.usable = message->authoritative && (message->rcode == DNS_NOERROR || message->rcode == DNS_NXDOMAIN);
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    int result = 0;
    if (record->section == MESSAGE_ANSWER) result = take_answer(record, owner, zone, wall, &finding, error);
    if (record->section == MESSAGE_AUTHORITY) take_authority(record, &finding);
    if (result) {
      observe_finding_release(&finding);
      return result;
    }
  }
  if (finding.text_count > 1)
    qsort(finding.texts, finding.text_count < OBSERVE_TEXTS_MAX ? finding.text_count : OBSERVE_TEXTS_MAX,
          sizeof *finding.texts, compare_texts);
  *ret_finding = finding;
  return 0;
}

/* --- words --- */

static void describe_text(const struct observe_text *text, char *buffer, size_t size) {
  if (text->octets)
    text_printable(text->octets, text->size, buffer, size);
  else
    text_copy(buffer, size, "a TXT that cannot be read");
}

void observe_describe(const struct observe_finding *finding, char buffer[OBSERVE_ANSWER_TEXT_MAX]) {
  if (finding->rcode != DNS_NOERROR && finding->rcode != DNS_NXDOMAIN)
    text_copy(buffer, OBSERVE_ANSWER_TEXT_MAX, message_rcode_name(finding->rcode));
  else if (!finding->authoritative)
    text_copy(buffer, OBSERVE_ANSWER_TEXT_MAX, "not authoritative");
  else if (finding->alias[0])
    snprintf(buffer, OBSERVE_ANSWER_TEXT_MAX, "CNAME to %.*s", OBSERVE_ANSWER_TEXT_MAX - 10, finding->alias);
  else if (finding->text_count > 1)
    snprintf(buffer, OBSERVE_ANSWER_TEXT_MAX, "%zu TXT records", finding->text_count);
  else if (finding->text_count == 1)
    describe_text(&finding->texts[0], buffer, OBSERVE_ANSWER_TEXT_MAX);
  else
    text_copy(buffer, OBSERVE_ANSWER_TEXT_MAX, finding->rcode == DNS_NXDOMAIN ? "NXDOMAIN" : "no TXT record");
}

static const char *signature_fault(enum observe_signature signature, bool is_signed) {
  switch (signature) {
  case OBSERVE_SIGNATURE_NONE: return is_signed ? "the TXT has no RRSIG, but the zone is signed" : NULL;
  case OBSERVE_SIGNATURE_FOREIGN: return "the RRSIG of the TXT is not by the zone";
  case OBSERVE_SIGNATURE_EXPIRED: return "the RRSIG of the TXT has expired";
  case OBSERVE_SIGNATURE_EARLY: return "the RRSIG of the TXT is not valid yet";
  case OBSERVE_SIGNATURE_VALID: break;
  }
  return NULL;
}

/* --- verdicts --- */

static bool is_text(const struct observe_text *text, const char *wanted) {
  return text->octets && wanted && text->size == strlen(wanted) && memcmp(text->octets, wanted, text->size) == 0;
}

static bool has_text(const struct observe_finding *finding, const char *wanted) {
  for (size_t i = 0; i < finding->text_count && i < OBSERVE_TEXTS_MAX; i++)
    if (is_text(&finding->texts[i], wanted)) return true;
  return false;
}

static enum observe_verdict judge_present(const struct observe_finding *finding, const struct observe_item *item,
                                          bool is_signed, char answer[OBSERVE_ANSWER_TEXT_MAX]) {
  const char *fault = NULL;
  if (finding->text_count != 1) return OBSERVE_WRONG;
  if (!is_text(&finding->texts[0], item->record)) {
    static const char prefix[] = "another TXT: ";
    text_copy(answer, OBSERVE_ANSWER_TEXT_MAX, prefix);
    describe_text(&finding->texts[0], answer + strlen(prefix), OBSERVE_ANSWER_TEXT_MAX - strlen(prefix));
    return OBSERVE_WRONG;
  }
  fault = signature_fault(finding->signature, is_signed);
  if (fault) text_copy(answer, OBSERVE_ANSWER_TEXT_MAX, fault);
  return fault ? OBSERVE_WRONG : OBSERVE_RIGHT;
}

/* Ours may be one of several, where somebody added another; beyond what is told apart nobody can say. */
static enum observe_verdict judge_absent(const struct observe_finding *finding, const struct observe_item *item) {
  const bool there = has_text(finding, item->record) || has_text(finding, item->record_also);
  return there || finding->text_count > OBSERVE_TEXTS_MAX ? OBSERVE_WRONG : OBSERVE_RIGHT;
}

void observe_judge(const struct observe_finding *finding, enum observe_kind kind, const struct observe_item *item,
                   bool is_signed, struct observe_server *server) {
  observe_describe(finding, server->answer);
  server->ttl = finding->ttl;
  server->ttl_negative = finding->ttl_negative;
  server->verdict = OBSERVE_RIGHT;
  server->nothing = finding->usable && finding->text_count == 0 && !finding->alias[0];
  if (finding->usable && finding->text_count == 1) {
    server->served = finding->texts[0].octets;
    server->served_size = finding->texts[0].size;
  }
  if (!finding->usable)
    server->verdict = OBSERVE_SILENT;
  else if (kind == OBSERVE_PRESENT)
    server->verdict = judge_present(finding, item, is_signed, server->answer);
  else if (kind == OBSERVE_ABSENT)
    server->verdict = judge_absent(finding, item);
}

bool observe_same(const struct observe_finding *a, const struct observe_finding *b) {
  if (a->rcode != b->rcode || a->text_count != b->text_count || !text_equal(a->alias, b->alias)) return false;
  if (a->text_count > OBSERVE_TEXTS_MAX) return false;
  for (size_t i = 0; i < a->text_count; i++)
    if (compare_texts(&a->texts[i], &b->texts[i]) != 0) return false;
  return true;
}
