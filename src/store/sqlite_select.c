#include "dkimroll/store_sqlite.h"

#include <stdlib.h>

#include "dkimroll/cleanup.h"

/* One select under way. */
struct selection {
  struct sqlite_store *store;
  struct sqlite_query query;
  store_row *row;
  void *context;
  struct error *error;
};

/* Whoever gets a row and has no memory for it need not say so: the place is here, and an error is never without words. */
static int give(const struct selection *selection, const void *row) {
  const int code = selection->row(selection->context, row);
  return code == ERROR_NO_MEMORY ? error_set(selection->error, code, "out of memory for what the store %s holds", selection->store->path) : code;
}

typedef int selection_deliver(struct selection *selection);

static int lineage_deliver(struct selection *selection, bool living) {
  CLEANUP(lineage_release) struct lineage lineage = {0};
  int64_t after = 0;
  bool more = false;
  int code = sqlite_lineage_read(&selection->query, &lineage, selection->error);
  /* More removed keys than one lineage may hold come in several rows. */
  do {
    while (lineage.key_count > 0) key_release(&lineage.keys[--lineage.key_count]);
    if (!code) code = sqlite_keys_load(selection->store, &lineage, living, after, &more, selection->error);
    if (!code && lineage.key_count > 0) after = lineage.keys[lineage.key_count - 1].id;
    if (!code) code = give(selection, &lineage);
  } while (!code && more);
  return code;
}

static int living_deliver(struct selection *selection) {
  return lineage_deliver(selection, true);
}
static int removed_deliver(struct selection *selection) {
  return lineage_deliver(selection, false);
}

static int event_deliver(struct selection *selection) {
  struct sqlite_query *query = &selection->query;
  struct event event = {0};
  event.id = sqlite_read_number(query, 1, INT64_MAX);
  event.at = sqlite_read_moment(query);
  event.lineage_id = sqlite_read_moment(query);
  if (event.lineage_id == TIME_UNSET) event.lineage_id = 0;
  /* Borrowed from the statement; the receiver gets the row const. */
  event.domain = (char *)sqlite_read_borrowed(query);
  event.slot = (char *)sqlite_read_borrowed(query);
  event.selector = (char *)sqlite_read_borrowed(query);
  event.kind = (char *)sqlite_read_borrowed(query);
  event.from = (char *)sqlite_read_borrowed(query);
  event.to = (char *)sqlite_read_borrowed(query);
  event.reason = (char *)sqlite_read_borrowed(query);
  const int code = sqlite_query_check(query, "event", event.id, selection->error);
  return code ? code : give(selection, &event);
}

static int request_deliver(struct selection *selection) {
  struct sqlite_query *query = &selection->query;
  struct store_request request = {0};
  request.id = sqlite_read_number(query, 1, INT64_MAX);
  request.kind = (enum store_request_kind)sqlite_read_number(query, REQUEST_ROTATE, REQUEST_RELEASE_WAVE);
  request.domain = (char *)sqlite_read_borrowed(query);
  request.reason = (char *)sqlite_read_borrowed(query);
  request.until = sqlite_read_moment(query);
  request.asked_at = sqlite_read_moment(query);
  request.asked_by = (char *)sqlite_read_borrowed(query);
  request.hold_scope = (enum hold_scope)sqlite_read_number(query, HOLD_ALL, HOLD_ACTIVATION);
  request.selector = (char *)sqlite_read_borrowed(query);
  request.options = (unsigned)sqlite_read_number(query, 0, UINT32_MAX);
  const int code = sqlite_query_check(query, "request", request.id, selection->error);
  return code ? code : give(selection, &request);
}

static int resource_deliver(struct selection *selection) {
  struct sqlite_query *query = &selection->query;
  struct store_resource resource = {0};
  resource.name = (char *)sqlite_read_borrowed(query);
  resource.failures = (unsigned)sqlite_read_number(query, 1, UINT32_MAX);
  resource.retry_at = sqlite_read_moment(query);
  resource.failure = (char *)sqlite_read_borrowed(query);
  const int code = sqlite_query_check(query, "resource", 0, selection->error);
  return code ? code : give(selection, &resource);
}

static int signer_deliver(struct selection *selection) {
  const struct policy_signer *signer;
  const int64_t id = sqlite_read_number(&selection->query, 1, INT64_MAX);
  int code = sqlite_query_check(&selection->query, "signer", id, selection->error);
  if (!code) code = sqlite_signer_get(selection->store, id, &signer, selection->error);
  return code ? code : give(selection, signer);
}

static int tables_deliver(struct selection *selection) {
  struct sqlite_query *query = &selection->query;
  struct store_tables tables = {0};
  tables.key_table = sqlite_read_borrowed(query);
  tables.signing_table = sqlite_read_borrowed(query);
  tables.digest = sqlite_read_borrowed(query);
  tables.state = sqlite_read_borrowed(query);
  tables.changed_at = sqlite_read_moment(query);
  tables.woken = sqlite_read_number(query, 0, STORE_ALL_WOKEN);
  const int code = sqlite_query_check(query, "signer_tables", 0, selection->error);
  return code ? code : give(selection, &tables);
}

static int wave_deliver(struct selection *selection) {
  struct wave wave;
  const int code = sqlite_wave_read(&selection->query, &wave, selection->error);
  return code ? code : give(selection, &wave);
}

static int selector_deliver(struct selection *selection) {
  char selector[SELECTOR_SIZE] = "";
  sqlite_read_into(&selection->query, selector, sizeof selector);
  const int code = sqlite_query_check(&selection->query, "key", 0, selection->error);
  return code ? code : give(selection, selector);
}

static int publisher_clock_deliver(struct selection *selection) {
  struct sqlite_query *query = &selection->query;
  struct store_publisher_clock clock = {.publisher_id = sqlite_read_number(query, 1, INT64_MAX)};
  clock.publisher = sqlite_read_borrowed(query);
  clock.skew = sqlite_read_number(query, INT64_MIN, INT64_MAX);
  clock.measured_at = sqlite_read_moment(query);
  const int code = sqlite_query_check(query, "publisher_clock", clock.publisher_id, selection->error);
  return code ? code : give(selection, &clock);
}

static int alarm_deliver(struct selection *selection) {
  struct sqlite_query *query = &selection->query;
  struct store_alarm alarm = {.subject = sqlite_read_borrowed(query)};
  alarm.domain = sqlite_read_borrowed(query);
  alarm.since = sqlite_read_moment(query);
  alarm.told_at = sqlite_read_moment(query);
  alarm.text = sqlite_read_borrowed(query);
  const int code = sqlite_query_check(query, "alarm", 0, selection->error);
  return code ? code : give(selection, &alarm);
}

static int told_deliver(struct selection *selection) {
  const int64_t event = sqlite_read_number(&selection->query, STORE_TOLD_START, INT64_MAX);
  const int code = sqlite_query_check(&selection->query, "meta", 0, selection->error);
  return code ? code : give(selection, &event);
}

static int count_deliver(struct selection *selection) {
  const int64_t count = sqlite_read_number(&selection->query, 0, INT64_MAX);
  const int code = sqlite_query_check(&selection->query, "lineage", 0, selection->error);
  return code ? code : give(selection, &count);
}

static int record_deliver(struct selection *selection) {
  struct sqlite_query *query = &selection->query;
  struct store_record record = {0};
  char owner[DNS_NAME_TEXT_SIZE] = "";
  const char *domain = sqlite_read_borrowed(query);
  const char *selector = sqlite_read_borrowed(query);
  record.owner = sqlite_read_borrowed(query);
  record.ttl = (uint32_t)sqlite_read_number(query, 0, UINT32_MAX);
  record.record = sqlite_read_borrowed(query);
  record.algorithm = (enum key_algorithm)sqlite_read_number(query, KEY_ALGORITHM_RSA, KEY_ALGORITHM_ED25519);
  record.revoked = sqlite_read_number(query, KEY_PUBLISHED, KEY_REVOKED) == KEY_REVOKED;
  int code = sqlite_query_check(query, "key", 0, selection->error);
  if (!code && record.owner[0] == '\0') code = selector_owner_name(selector, domain, owner, selection->error);
  if (!code && record.owner[0] == '\0') record.owner = owner;
  return code ? code : give(selection, &record);
}

/* One kind: SQL for all rows, and where an index helps for one domain, and their descending forms. ?1 is filter.domain, ?2 text, ?3 after. */
struct selection_kind {
  const char *all, *domain, *all_descending, *domain_descending;
  selection_deliver *deliver;
};

#define LINEAGES "SELECT " SQLITE_LINEAGE_COLUMNS " FROM lineage WHERE "
#define HAS_REMOVED "EXISTS (SELECT 1 FROM key WHERE lineage_id = lineage.id AND state = 7)"
#define EVENTS "SELECT id, at, lineage_id, domain, slot, selector, kind, from_state, to_state, reason FROM event WHERE "

static const struct selection_kind KINDS[] = {
    [STORE_SELECT_LINEAGES] = {.all = LINEAGES "forgotten = 0 ORDER BY domain, slot",
                               .domain = LINEAGES "domain = ?1 AND forgotten = 0 ORDER BY slot",
                               .deliver = living_deliver},
    [STORE_SELECT_EVENTS] = {.all = EVENTS "id > ?3 ORDER BY id",
                             .domain = EVENTS "domain = ?1 AND id > ?3 ORDER BY id",
                             .all_descending = EVENTS "id > ?3 ORDER BY id DESC",
                             .domain_descending = EVENTS "domain = ?1 AND id > ?3 ORDER BY id DESC",
                             .deliver = event_deliver},
    [STORE_SELECT_REQUESTS] = {.all = "SELECT id, kind, domain, reason, until, asked_at, asked_by, hold_scope, selector, options FROM request"
                                      " WHERE (?1 IS NULL OR domain = ?1) AND id > ?3 ORDER BY id",
                               .deliver = request_deliver},
    [STORE_SELECT_RESOURCES] = {.all = "SELECT name, failures, retry_at, failure FROM resource ORDER BY name",
                                .deliver = resource_deliver},
    [STORE_SELECT_TABLES] = {.all = "SELECT key_table, signing_table, digest, state, changed_at, woken FROM signer_tables"
                                    " ORDER BY key_table, signing_table",
                             .deliver = tables_deliver},
    [STORE_SELECT_WAVE] = {.all = "SELECT " SQLITE_WAVE_COLUMNS " FROM wave WHERE id = 1", .deliver = wave_deliver},
    [STORE_SELECT_PUBLISHER_CLOCKS] = {.all = "SELECT publisher_id, publisher.name, skew, measured_at FROM publisher_clock"
                                              " JOIN publisher ON publisher.id = publisher_id ORDER BY publisher.name, measured_at, publisher_id",
                                       .deliver = publisher_clock_deliver},
    [STORE_SELECT_ALARMS] = {.all = "SELECT subject, domain, since, told_at, text FROM alarm ORDER BY subject", .deliver = alarm_deliver},
    [STORE_SELECT_LINEAGES_AFTER] = {.all = LINEAGES "(domain, slot) > (?1, ?2) AND forgotten = 0 ORDER BY domain, slot", .deliver = living_deliver},
    [STORE_SELECT_TOLD] = {.all = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'told-event'", .deliver = told_deliver},
    [STORE_SELECT_COUNT] = {.all = "SELECT count(*) FROM lineage WHERE forgotten = 0", .deliver = count_deliver},
    [STORE_SELECT_SIGNERS] = {.all = "SELECT id FROM signer WHERE used = 1 ORDER BY id", .deliver = signer_deliver},
    [STORE_SELECT_LIVING_SIGNERS] = {.all = "SELECT DISTINCT placement.signer_id FROM key JOIN placement ON placement.key_id = key.id"
                                            " WHERE key.state <> 7 AND placement.destroyed = 0 ORDER BY placement.signer_id",
                                     .deliver = signer_deliver},
    [STORE_SELECT_SELECTORS] = {.all = "SELECT selector FROM key WHERE domain = ?1 AND (?2 IS NULL OR selector = ?2)",
                                .deliver = selector_deliver},
    [STORE_SELECT_REMOVED] = {.all = LINEAGES HAS_REMOVED " ORDER BY domain, slot",
                              .domain = LINEAGES "domain = ?1 AND " HAS_REMOVED " ORDER BY slot",
                              .deliver = removed_deliver},
    [STORE_SELECT_RECORDS] = {.all = "SELECT key.domain, key.selector, key.owner, key.ttl, key.record, key.algorithm, key.state FROM key"
                                     " JOIN publisher ON publisher.id = key.publisher_id WHERE key.zone = ?2 AND key.state BETWEEN 2 AND 6"
                                     " AND publisher.name = ?1 AND key.record IS NOT NULL"
                                     " AND (key.generated_at IS NULL OR key.published_at IS NOT NULL) AND key.deleted_at IS NULL",
                              .deliver = record_deliver},
    [STORE_SELECT_KEY_USERS] = {.all = LINEAGES "id IN (SELECT key.lineage_id FROM placement"
                                                " JOIN key ON key.id = placement.key_id WHERE placement.key_path = ?2"
                                                " AND placement.destroyed = 0 AND key.state <> 7) ORDER BY id",
                                .deliver = living_deliver},
};
static const char SQL_LINEAGES_BY_ID[] = LINEAGES "id > ?3 AND forgotten = 0 ORDER BY id";

static const char *selection_sql(enum store_select_kind kind, const struct store_filter *filter) {
  const struct selection_kind *how = &KINDS[kind];
  const bool paging = !filter->domain && (filter->limit > 0 || filter->after > 0);
  if (kind == STORE_SELECT_LINEAGES && paging) return SQL_LINEAGES_BY_ID;
  if (filter->domain && filter->descending && how->domain_descending) return how->domain_descending;
  if (filter->domain && how->domain) return how->domain;
  return filter->descending && how->all_descending ? how->all_descending : how->all;
}

/* Statements have as many parameters as the highest that they use. */
static void selection_bind(struct sqlite_query *query, const struct store_filter *filter) {
  const int count = sqlite3_bind_parameter_count(query->statement);
  if (count >= 1) sqlite_bind_text(query, filter->domain);
  if (count >= 2) sqlite_bind_text(query, filter->text);
  if (count >= 3) sqlite_bind_number(query, filter->after);
}

int sqlite_select(struct store *base, enum store_select_kind kind, const struct store_filter *filter, store_row *row,
                  void *context, struct error *error) {
  struct selection selection = {.store = sqlite_store_of(base), .row = row, .context = context, .error = error};
  if (kind < STORE_SELECT_LINEAGES || (size_t)kind >= ARRAY_SIZE(KINDS))
    return error_set(error, ERROR_INTERNAL, "store %s: there are no rows of kind %d", selection.store->path, (int)kind);
  int code = sqlite_query_begin(selection.store, selection_sql(kind, filter), &selection.query, error);
  if (code) return code;
  selection_bind(&selection.query, filter);
  bool more = true;
  for (size_t delivered = 0; !code && (filter->limit == 0 || delivered < filter->limit); delivered++) {
    code = sqlite_query_step(&selection.query, &more, error);
    if (code || !more) break;
    code = KINDS[kind].deliver(&selection);
  }
  sqlite_query_end(&selection.query);
  return code;
}
