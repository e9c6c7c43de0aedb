/* What stands at a name and what that means for a change. */
#include "dkimroll/update_state.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

enum { SHOWN_SIZE = 120 /* of a foreign record in a message: enough to recognise it */ };

static bool holds(const struct message_record *record, const char *owner, uint16_t type) {
  return record->section == MESSAGE_ANSWER && record->type == type && text_equal(record->name, owner);
}

/* String by string, without a copy: a comparison that could fail would make a record that stands look gone. */
static bool content_is(const struct message_record *record, const char *text) {
  struct reader strings = {.data = record->rdata, .size = record->rdata_size};
  size_t left = strlen(text);
  while (strings.position < strings.size) {
    const size_t length = reader_u8(&strings);
    const uint8_t *octets = reader_octets(&strings, length);
    if (!octets || length > left || memcmp(octets, text, length) != 0) return false;
    text += length;
    left -= length;
  }
  return left == 0 && record->rdata_size > 0;
}

static size_t count_type(const struct message *answer, const char *owner, uint16_t type) {
  size_t count = 0;
  for (size_t i = 0; i < answer->record_count; i++) count += holds(&answer->records[i], owner, type);
  return count;
}

static const struct message_record *first_of_type(const struct message *answer, const char *owner, uint16_t type) {
  for (size_t i = 0; i < answer->record_count; i++)
    if (holds(&answer->records[i], owner, type)) return &answer->records[i];
  return NULL;
}

const struct message_record *update_state_find(const struct message *answer, const char *owner, const char *text) {
  for (size_t i = 0; i < answer->record_count; i++)
    if (holds(&answer->records[i], owner, DNS_TYPE_TXT) && content_is(&answer->records[i], text))
      return &answer->records[i];
  return NULL;
}

const struct message_record *update_state_find_before(const struct publish_item *item, const char *owner,
                                                      const struct message *answer) {
  const struct message_record *found = NULL;
  if (item->record_before) found = update_state_find(answer, owner, item->record_before);
  if (!found && item->record_also) found = update_state_find(answer, owner, item->record_also);
  return found;
}

enum update_state update_state_judge(const struct publish_item *item, const char *owner, const struct message *answer) {
  size_t texts = count_type(answer, owner, DNS_TYPE_TXT);
  bool alias = count_type(answer, owner, DNS_TYPE_CNAME) > 0;
  bool before = update_state_find_before(item, owner, answer) != NULL;
  if (item->change == PUBLISH_ATTEST) return UPDATE_STATE_WANTED;
  /* Deleted is what is not there, whatever else is. */
  if (item->change == PUBLISH_DELETE && !before) return UPDATE_STATE_WANTED;
  if (item->record && texts == 1 && update_state_find(answer, owner, item->record)) return UPDATE_STATE_WANTED;
  if (item->change == PUBLISH_ADD) return texts == 0 && !alias ? UPDATE_STATE_BEFORE : UPDATE_STATE_FOREIGN;
  /* What somebody else has removed is put there anew: the record that is to stand there needs none before it. */
  if (texts == 0 && !alias) return UPDATE_STATE_BEFORE;
  return texts == 1 && before ? UPDATE_STATE_BEFORE : UPDATE_STATE_FOREIGN;
}

static bool shows(const struct message *answer, const char *owner, const struct message_record *record) {
  for (size_t i = 0; i < answer->record_count; i++) {
    const struct message_record *other = &answer->records[i];
    if (holds(other, owner, record->type) && other->rdata_size == record->rdata_size &&
        memcmp(other->rdata, record->rdata, record->rdata_size) == 0)
      return true;
  }
  return false;
}

static bool shows_all(const struct message *answer, const char *owner, const struct message *other,
                      const char *other_owner) {
  for (size_t i = 0; i < other->record_count; i++) {
    const struct message_record *record = &other->records[i];
    bool matters = holds(record, other_owner, DNS_TYPE_TXT) || holds(record, other_owner, DNS_TYPE_CNAME);
    if (matters && !shows(answer, owner, record)) return false;
  }
  return true;
}

bool update_state_same(const struct message *answer, const char *owner, const struct message *sibling_answer,
                       const char *sibling) {
  return shows_all(answer, owner, sibling_answer, sibling) && shows_all(sibling_answer, sibling, answer, owner);
}

static int alias_conflict(const struct message_record *record, const char *owner, struct error *error) {
  char target[DNS_NAME_TEXT_SIZE];
  if (message_rdata_name(record, target, NULL) < 0) text_copy(target, sizeof target, "?");
  error_set(error, ERROR_CONFLICT, "a CNAME to %s stands at %s", target, owner);
  return error_remedy(
      error,
      "Remove that CNAME: a fixed one cannot follow a key that changes. To delegate, use NS or DNAME records at the "
      "_domainkey name.");
}

static int text_conflict(const struct message_record *record, const char *owner, struct error *error) {
  CLEANUP_FREE char *content = NULL;
  size_t size = 0;
  char shown[SHOWN_SIZE];
  if (record_from_rdata(record->rdata, record->rdata_size, &content, &size, NULL) < 0) size = 0;
  error_set(error, ERROR_CONFLICT, "another TXT record stands at %s: \"%s\"", owner,
            text_printable(content ? content : "", size, shown, sizeof shown));
  return error_remedy(
      error, "dkimroll does not touch what others wrote. Find out who published it; remove it there, or choose another "
             "selector template.");
}

int update_state_conflict(const struct publish_item *item, const char *owner, const struct message *answer,
                          struct error *error) {
  struct error local;
  if (!error) error = &local;
  const struct message_record *alias = first_of_type(answer, owner, DNS_TYPE_CNAME);
  const struct message_record *text = first_of_type(answer, owner, DNS_TYPE_TXT);
  size_t texts = count_type(answer, owner, DNS_TYPE_TXT);
  if (alias) return alias_conflict(alias, owner, error);
  if (text && texts == 1) return text_conflict(text, owner, error);
  if (texts > 1) {
    bool ours = (item->record && update_state_find(answer, owner, item->record)) ||
                (item->record_before && update_state_find(answer, owner, item->record_before));
    error_set(error, ERROR_CONFLICT, "%zu TXT records stand at %s, %s (RFC 6376 3.6.2.2: verifiers may take any)",
              texts, owner, ours ? "ours and others" : "none of them ours");
    return error_remedy(error, "Remove those that dkimroll did not write: dig %s TXT shows them.", owner);
  }
  error_set(error, ERROR_CONFLICT, "the TXT record at %s is gone", owner);
  return error_remedy(error, "Someone else removed it. Find out who manages the zone besides dkimroll.");
}
