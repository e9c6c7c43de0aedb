#include "dkimroll/store_sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum { SENDERS_TEXT_MAX = POLICY_SENDERS_MAX * 512 }; /* an address is at most 320 octets (RFC 5321 4.5.3.1) */

const char *sqlite_signers_text(const int64_t *ids, size_t count, char buffer[SQLITE_SIGNERS_TEXT_MAX]) {
  size_t used = 0;
  buffer[0] = '\0';
  for (size_t i = 0; i < count; i++)
    used += (size_t)snprintf(buffer + used, SQLITE_SIGNERS_TEXT_MAX - used, "%s%lld", i ? " " : "", (long long)ids[i]);
  return buffer;
}

static const char *usual_sender(const char *domain, char buffer[DNS_NAME_TEXT_SIZE + 2]) {
  snprintf(buffer, DNS_NAME_TEXT_SIZE + 2, "*@%s", domain);
  return buffer;
}

int sqlite_senders_text(const char *domain, char *const *senders, size_t count, char **ret_text, struct error *error) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(SENDERS_TEXT_MAX);
  char usual[DNS_NAME_TEXT_SIZE + 2];
  if (count == 0 || (count == 1 && text_equal(senders[0], usual_sender(domain, usual)))) {
    *ret_text = NULL;
    return 0;
  }
  for (size_t i = 0; i < count; i++) {
    if (!senders[i][0] || strchr(senders[i], '\n'))
      return error_set(error, ERROR_INVALID, "%s: a sender pattern is empty or holds a line feed", domain);
    if (i) buffer_add_text(&text, "\n");
    buffer_add_text(&text, senders[i]);
  }
  char *result = buffer_take_text(&text);
  if (!result) return error_set(error, ERROR_LIMIT, "%s: the sender patterns together are too long", domain);
  *ret_text = result;
  return 0;
}

/* The columns that one statement reads and writes are the lineage's own; this one was edited by somebody else. */
static int column_wrong(const struct sqlite_store *store, const struct lineage *lineage, const char *column,
                        struct error *error) {
  error_set(error, ERROR_INTERNAL, "store %s: table lineage, row %lld: column %s holds what dkimroll never writes",
            store->path, (long long)lineage->id, column);
  return error_remedy(error, SQLITE_REMEDY_EDITED);
}

static int sender_add(struct lineage *lineage, const char *text, size_t size, struct error *error) {
  char **senders = reallocarray(lineage->senders, lineage->sender_count + 1, sizeof(char *));
  if (!senders) return error_set(error, ERROR_NO_MEMORY, "out of memory for the senders of %s", lineage->domain);
  lineage->senders = senders;
  senders[lineage->sender_count] = strndup(text, size);
  if (!senders[lineage->sender_count])
    return error_set(error, ERROR_NO_MEMORY, "out of memory for the senders of %s", lineage->domain);
  lineage->sender_count++;
  return 0;
}

static int senders_read(struct sqlite_query *query, struct lineage *lineage, struct error *error) {
  char usual[DNS_NAME_TEXT_SIZE + 2];
  const char *text = sqlite_read_borrowed(query);
  if (!text) text = usual_sender(lineage->domain, usual);
  for (;;) {
    const size_t size = strcspn(text, "\n");
    if (size == 0 || lineage->sender_count == POLICY_SENDERS_MAX)
      return column_wrong(query->store, lineage, "senders", error);
    const int code = sender_add(lineage, text, size, error);
    if (code || !text[size]) return code;
    text += size + 1;
  }
}

static int signers_read(struct sqlite_query *query, struct lineage *lineage, struct error *error) {
  const char *text = sqlite_read_borrowed(query);
  if (!text) return query->no_memory ? sqlite_query_check(query, "lineage", lineage->id, error) : column_wrong(query->store, lineage, "signers", error);
  while (*text) {
    char *end;
    errno = 0;
    const long long id = strtoll(text, &end, 10);
    if (end == text || errno || id < 1 || (*end && *end != ' ') || lineage->signer_count == POLICY_SIGNERS_MAX)
      return column_wrong(query->store, lineage, "signers", error);
    lineage->signer_ids[lineage->signer_count] = id;
    const int code = sqlite_signer_get(query->store, id, &lineage->signers[lineage->signer_count], error);
    if (code) return code;
    lineage->signer_count++;
    text = *end ? end + 1 : end;
  }
  return 0;
}

int sqlite_lineage_read(struct sqlite_query *query, struct lineage *ret_lineage, struct error *error) {
  struct lineage *lineage = ret_lineage;
  *lineage = (struct lineage){.id = sqlite_read_number(query, 1, INT64_MAX)};
  sqlite_read_into(query, lineage->domain, sizeof lineage->domain);
  sqlite_read_into(query, lineage->slot, sizeof lineage->slot);
  lineage->managed = sqlite_read_bool(query);
  lineage->forgotten = sqlite_read_bool(query);
  lineage->rules_id = sqlite_read_number(query, 1, INT64_MAX);
  lineage->publisher_id = sqlite_read_number(query, 1, INT64_MAX);
  int code = signers_read(query, lineage, error);
  if (!code) code = sqlite_read_text(query, &lineage->zone, error);
  if (!code) code = senders_read(query, lineage, error);
  if (code) return code;
  lineage->held = sqlite_read_bool(query);
  code = sqlite_read_text(query, &lineage->hold_reason, error);
  lineage->hold_until = sqlite_read_moment(query);
  lineage->rotate_requested = sqlite_read_bool(query);
  lineage->failures = (unsigned)sqlite_read_number(query, 0, UINT32_MAX);
  lineage->retry_at = sqlite_read_moment(query);
  lineage->parked_at = sqlite_read_moment(query);
  if (!code) code = sqlite_read_text(query, &lineage->failure, error);
  lineage->next_moment = sqlite_read_number(query, TIME_UNSET + 1, TIME_NEVER);
  lineage->hold_scope = (enum hold_scope)sqlite_read_number(query, HOLD_ALL, HOLD_ACTIVATION);
  lineage->begin_place = sqlite_read_moment(query);
  lineage->switch_place = sqlite_read_moment(query);
  if (!code) code = sqlite_query_check(query, "lineage", lineage->id, error);
  if (!code) code = sqlite_rules_get(query->store, lineage->rules_id, &lineage->rules, error);
  if (!code) code = sqlite_publisher_get(query->store, lineage->publisher_id, &lineage->publisher, error);
  return code;
}

int sqlite_lineage_load(struct sqlite_store *store, int64_t id, struct lineage *ret_lineage, struct error *error) {
  static const char sql[] = "SELECT " SQLITE_LINEAGE_COLUMNS " FROM lineage WHERE id = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  bool more = false;
  *ret_lineage = (struct lineage){0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, id);
  code = sqlite_query_step(&query, &row, error);
  if (code) return code;
  if (!row)
    return error_set(error, ERROR_INTERNAL, "store %s: table lineage has no row %lld", store->path, (long long)id);
  code = sqlite_lineage_read(&query, ret_lineage, error);
  return code ? code : sqlite_keys_load(store, ret_lineage, true, 0, &more, error);
}

/* A sync between the loading and the writing of a lineage has made it due, and what was planned under the old policy must not put that off. */
int sqlite_lineage_write(struct sqlite_store *store, const struct lineage *lineage, struct error *error) {
  static const char sql[] =
      "UPDATE lineage SET forgotten = ?, held = ?, hold_reason = ?, hold_until = ?, rotate_requested = ?, failures = ?,"
      " retry_at = ?, parked_at = ?, failure = ?, next_moment = CASE WHEN (managed, rules_id, publisher_id, signers,"
      " zone, senders) IS (?, ?, ?, ?, ?, ?) THEN ?17 ELSE min(next_moment, ?17) END, hold_scope = ?18,"
      " begin_place = ?19, switch_place = ?20 WHERE id = ?16";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  CLEANUP_FREE char *senders = NULL;
  char signers[SQLITE_SIGNERS_TEXT_MAX];
  int64_t changes = 0;
  int code = sqlite_senders_text(lineage->domain, lineage->senders, lineage->sender_count, &senders, error);
  if (!code) code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, lineage->forgotten);
  sqlite_bind_number(&query, lineage->held);
  sqlite_bind_text(&query, lineage->hold_reason);
  sqlite_bind_moment(&query, lineage->hold_until);
  sqlite_bind_number(&query, lineage->rotate_requested);
  sqlite_bind_number(&query, lineage->failures);
  sqlite_bind_moment(&query, lineage->retry_at);
  sqlite_bind_moment(&query, lineage->parked_at);
  sqlite_bind_text(&query, lineage->failure);
  sqlite_bind_number(&query, lineage->managed);
  sqlite_bind_number(&query, lineage->rules_id);
  sqlite_bind_number(&query, lineage->publisher_id);
  sqlite_bind_text(&query, sqlite_signers_text(lineage->signer_ids, lineage->signer_count, signers));
  sqlite_bind_text(&query, lineage->zone);
  sqlite_bind_text(&query, senders);
  sqlite_bind_number(&query, lineage->id);
  sqlite_bind_moment(&query, lineage->next_moment);
  sqlite_bind_number(&query, lineage->hold_scope);
  sqlite_bind_moment(&query, lineage->begin_place);
  sqlite_bind_moment(&query, lineage->switch_place);
  code = sqlite_query_run(&query, &changes, error);
  if (code || changes == 1) return code;
  return error_set(error, ERROR_INTERNAL, "store %s: table lineage has no row %lld", store->path,
                   (long long)lineage->id);
}
