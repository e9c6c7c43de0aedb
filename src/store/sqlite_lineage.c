#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/store_sqlite.h"
#include "dkimroll/text.h"

const char *sqlite_signers_text(const int64_t *ids, size_t count, char buffer[SQLITE_SIGNERS_TEXT_MAX]) {
  size_t used = 0;
  buffer[0] = '\0';
  for (size_t i = 0; i < count; i++)
    used += (size_t)snprintf(buffer + used, SQLITE_SIGNERS_TEXT_MAX - used, "%s%lld", i ? " " : "", (long long)ids[i]);
  return buffer;
}

int sqlite_senders_text(const char *domain, char *const *senders, size_t count, char **ret_text, struct error *error) {
  struct buffer text = BUFFER_WITH_MAXIMUM(POLICY_SENDERS_MAX * 512);
  char usual[DNS_NAME_TEXT_SIZE + 2];
  snprintf(usual, sizeof usual, "*@%s", domain);
  if (count == 0 || (count == 1 && text_equal(senders[0], usual))) {
    *ret_text = NULL;
    return 0;
  }
  for (size_t i = 0; i < count; i++) {
    if (strchr(senders[i], '\n')) {
      buffer_release(&text);
      return error_set(error, ERROR_INVALID, "%s: a sender pattern holds a line feed", domain);
    }
    if (i) buffer_add_text(&text, "\n");
    buffer_add_text(&text, senders[i]);
  }
  *ret_text = buffer_take_text(&text);
  return *ret_text ? 0 : error_set(error, ERROR_LIMIT, "%s: the sender patterns are too long", domain);
}

static int sender_add(struct lineage *lineage, const char *text, size_t size, struct error *error) {
  char **senders = reallocarray(lineage->senders, lineage->sender_count + 1, sizeof(char *));
  if (!senders) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  lineage->senders = senders;
  senders[lineage->sender_count] = strndup(text, size);
  if (!senders[lineage->sender_count]) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  lineage->sender_count++;
  return 0;
}

static int senders_read(struct lineage *lineage, const char *text, struct error *error) {
  char usual[DNS_NAME_TEXT_SIZE + 2];
  int code = 0;
  if (!text) {
    const int size = snprintf(usual, sizeof usual, "*@%s", lineage->domain);
    return sender_add(lineage, usual, (size_t)size, error);
  }
  while (!code && *text) {
    const size_t size = strcspn(text, "\n");
    code = sender_add(lineage, text, size, error);
    text += size + (text[size] == '\n');
  }
  return code;
}

static int signers_read(struct sqlite_store *store, struct lineage *lineage, const char *text, struct error *error) {
  int code = 0;
  while (text && *text && !code) {
    char *end = NULL;
    const long long id = strtoll(text, &end, 10);
    if (end == text || id < 1 || lineage->signer_count == POLICY_SIGNERS_MAX)
      return error_set(error, ERROR_INTERNAL, "store %s: table lineage, row %lld: column signers holds what dkimroll never writes", store->path,
                       (long long)lineage->id);
    lineage->signer_ids[lineage->signer_count] = id;
    code = sqlite_signer_get(store, id, &lineage->signers[lineage->signer_count], error);
    if (!code) lineage->signer_count++;
    text = end + (*end == ' ');
  }
  return code;
}

int sqlite_lineage_read(struct sqlite_query *query, struct lineage *ret_lineage, struct error *error) {
  struct sqlite_store *store = query->store;
  struct lineage *lineage = ret_lineage;
  memset(lineage, 0, sizeof *lineage);
  lineage->id = sqlite_read_number(query, 1, INT64_MAX);
  sqlite_read_into(query, lineage->domain, sizeof lineage->domain);
  sqlite_read_into(query, lineage->slot, sizeof lineage->slot);
  lineage->managed = sqlite_read_bool(query);
  lineage->forgotten = sqlite_read_bool(query);
  lineage->rules_id = sqlite_read_number(query, 1, INT64_MAX);
  lineage->publisher_id = sqlite_read_number(query, 1, INT64_MAX);
  int code = signers_read(store, lineage, sqlite_read_borrowed(query), error);
  if (!code) code = sqlite_read_text(query, &lineage->zone, error);
  if (!code) code = senders_read(lineage, sqlite_read_borrowed(query), error);
  if (code) return code;
  lineage->held = sqlite_read_bool(query);
  code = sqlite_read_text(query, &lineage->hold_reason, error);
  lineage->hold_until = sqlite_read_moment(query);
  lineage->rotate_requested = sqlite_read_bool(query);
  lineage->failures = (unsigned)sqlite_read_number(query, 0, UINT32_MAX);
  lineage->retry_at = sqlite_read_moment(query);
  lineage->parked_at = sqlite_read_moment(query);
  if (!code) code = sqlite_read_text(query, &lineage->failure, error);
  lineage->next_moment = sqlite_read_moment(query);
  if (!code) code = sqlite_query_check(query, "lineage", lineage->id, error);
  if (!code) code = sqlite_rules_get(store, lineage->rules_id, &lineage->rules, error);
  if (!code) code = sqlite_publisher_get(store, lineage->publisher_id, &lineage->publisher, error);
  return code;
}

int sqlite_lineage_load(struct sqlite_store *store, int64_t id, struct lineage *ret_lineage, struct error *error) {
  static const char sql[] = "SELECT " SQLITE_LINEAGE_COLUMNS " FROM lineage WHERE id = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false, more = false;
  memset(ret_lineage, 0, sizeof *ret_lineage);
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, id);
  code = sqlite_query_step(&query, &row, error);
  if (code) return code;
  if (!row) return error_set(error, ERROR_INTERNAL, "store %s: lineage %lld is not there", store->path, (long long)id);
  code = sqlite_lineage_read(&query, ret_lineage, error);
  if (!code) code = sqlite_keys_load(store, ret_lineage, true, 0, &more, error);
  return code;
}

int sqlite_lineage_write(struct sqlite_store *store, const struct lineage *lineage, struct error *error) {
  static const char sql[] = "UPDATE lineage SET forgotten = ?, held = ?, hold_reason = ?, hold_until = ?, rotate_requested = ?, failures = ?,"
                            " retry_at = ?, parked_at = ?, failure = ?, next_moment = ? WHERE id = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int64_t changes = 0;
  int code = sqlite_query_begin(store, sql, &query, error);
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
  sqlite_bind_number(&query, lineage->next_moment);
  sqlite_bind_number(&query, lineage->id);
  code = sqlite_query_run(&query, &changes, error);
  if (!code && changes != 1) code = error_set(error, ERROR_INTERNAL, "store %s: lineage %lld is not there", store->path, (long long)lineage->id);
  return code;
}
