#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/store_sqlite.h"

/* One select under way. */
struct selection {
  struct sqlite_store *store;
  const struct store_filter *filter;
  store_row *row;
  void *context;
  int64_t left; /* rows that the limit still allows */
};

typedef int selection_row(struct selection *selection, struct sqlite_query *query, struct error *error);

/* Runs a statement whose parameters are already bound by bind_filter. */
static int select_rows(struct selection *selection, struct sqlite_query *query, selection_row *each, struct error *error) {
  bool row = false;
  int code = 0;
  while (selection->left > 0 && !(code = sqlite_query_step(query, &row, error)) && row) {
    selection->left--;
    code = each(selection, query, error);
    if (code) return code;
  }
  return code;
}

static int row_lineage(struct selection *selection, struct sqlite_query *query, bool living, struct error *error) {
  struct lineage lineage;
  bool more = false;
  int code = sqlite_lineage_read(query, &lineage, error);
  if (!code) code = sqlite_keys_load(selection->store, &lineage, living, 0, &more, error);
  if (!code) code = selection->row(selection->context, &lineage);
  /* More removed keys than one lineage holds come in further rows. */
  while (!code && more) {
    const int64_t last = lineage.keys[lineage.key_count - 1].id;
    for (size_t i = 0; i < lineage.key_count; i++) key_release(&lineage.keys[i]);
    lineage.key_count = 0;
    code = sqlite_keys_load(selection->store, &lineage, living, last, &more, error);
    if (!code) code = selection->row(selection->context, &lineage);
  }
  lineage_release(&lineage);
  return code;
}
static int row_living(struct selection *selection, struct sqlite_query *query, struct error *error) {
  return row_lineage(selection, query, true, error);
}
static int row_removed(struct selection *selection, struct sqlite_query *query, struct error *error) {
  return row_lineage(selection, query, false, error);
}

static int row_event(struct selection *selection, struct sqlite_query *query, struct error *error) {
  struct event event = {.id = sqlite_read_number(query, 1, INT64_MAX), .at = sqlite_read_moment(query)};
  const int64_t lineage_id = sqlite_read_moment(query);
  event.lineage_id = lineage_id == TIME_UNSET ? 0 : lineage_id;
  char **const texts[] = {&event.domain, &event.slot, &event.selector, &event.kind, &event.from, &event.to, &event.reason};
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) *texts[i] = (char *)sqlite_read_borrowed(query);
  const int code = sqlite_query_check(query, "event", event.id, error);
  return code ? code : selection->row(selection->context, &event);
}

static int row_request(struct selection *selection, struct sqlite_query *query, struct error *error) {
  struct store_request request = {.id = sqlite_read_number(query, 1, INT64_MAX),
                                  .kind = (enum store_request_kind)sqlite_read_number(query, REQUEST_ROTATE, REQUEST_FORGET),
                                  .domain = (char *)sqlite_read_borrowed(query),
                                  .reason = (char *)sqlite_read_borrowed(query),
                                  .until = sqlite_read_moment(query),
                                  .asked_at = sqlite_read_moment(query),
                                  .asked_by = (char *)sqlite_read_borrowed(query)};
  const int code = sqlite_query_check(query, "request", request.id, error);
  return code ? code : selection->row(selection->context, &request);
}

static int row_resource(struct selection *selection, struct sqlite_query *query, struct error *error) {
  struct store_resource resource = {.name = (char *)sqlite_read_borrowed(query),
                                    .failures = (unsigned)sqlite_read_number(query, 1, UINT32_MAX),
                                    .retry_at = sqlite_read_moment(query),
                                    .failure = (char *)sqlite_read_borrowed(query)};
  const int code = sqlite_query_check(query, "resource", 0, error);
  return code ? code : selection->row(selection->context, &resource);
}

static int row_signer(struct selection *selection, struct sqlite_query *query, struct error *error) {
  const struct policy_signer *signer = NULL;
  const int64_t id = sqlite_read_number(query, 1, INT64_MAX);
  int code = sqlite_query_check(query, "signer", id, error);
  if (!code) code = sqlite_signer_get(selection->store, id, &signer, error);
  return code ? code : selection->row(selection->context, signer);
}

static int row_selector(struct selection *selection, struct sqlite_query *query, struct error *error) {
  const char *selector = sqlite_read_borrowed(query);
  const int code = sqlite_query_check(query, "key", 0, error);
  return code ? code : selection->row(selection->context, selector);
}

/* SQL and the reader of its rows, by kind; ?1 domain (NULL: all), ?2 text, ?3 after. */
struct selection_kind {
  const char *sql, *sql_descending;
  selection_row *row;
};

#define EVENT_COLUMNS "id, at, lineage_id, domain, slot, selector, kind, from_state, to_state, reason"
static const struct selection_kind KINDS[] = {
    [STORE_SELECT_LINEAGES] = {"SELECT " SQLITE_LINEAGE_COLUMNS " FROM lineage WHERE (?1 IS NULL OR domain = ?1) AND ?2 IS NULL AND id > ?3"
                               " AND forgotten = 0 ORDER BY domain, slot",
                               NULL, row_living},
    [STORE_SELECT_EVENTS] = {"SELECT " EVENT_COLUMNS " FROM event WHERE (?1 IS NULL OR domain = ?1) AND ?2 IS NULL AND id > ?3 ORDER BY id",
                             "SELECT " EVENT_COLUMNS " FROM event WHERE (?1 IS NULL OR domain = ?1) AND ?2 IS NULL AND id > ?3 ORDER BY id DESC",
                             row_event},
    [STORE_SELECT_REQUESTS] = {"SELECT id, kind, domain, reason, until, asked_at, asked_by FROM request WHERE (?1 IS NULL OR domain = ?1)"
                               " AND ?2 IS NULL AND id > ?3 ORDER BY id",
                               NULL, row_request},
    [STORE_SELECT_RESOURCES] = {"SELECT name, failures, retry_at, failure FROM resource WHERE ?1 IS NULL AND ?2 IS NULL AND ?3 = 0 ORDER BY name",
                                NULL, row_resource},
    [STORE_SELECT_SIGNERS] = {"SELECT id FROM signer WHERE used = 1 AND ?1 IS NULL AND ?2 IS NULL AND id > ?3 ORDER BY id", NULL, row_signer},
    [STORE_SELECT_SELECTORS] = {"SELECT selector FROM key WHERE domain = ?1 AND (?2 IS NULL OR selector = ?2) AND id > ?3", NULL, row_selector},
    [STORE_SELECT_REMOVED] = {"SELECT " SQLITE_LINEAGE_COLUMNS " FROM lineage WHERE (?1 IS NULL OR domain = ?1) AND ?2 IS NULL AND id > ?3"
                              " AND EXISTS (SELECT 1 FROM key WHERE lineage_id = lineage.id AND state = 7) ORDER BY domain, slot",
                              NULL, row_removed},
    [STORE_SELECT_KEY_USERS] = {"SELECT " SQLITE_LINEAGE_COLUMNS " FROM lineage WHERE (?1 IS NULL OR domain = ?1) AND id > ?3 AND id IN"
                                " (SELECT key.lineage_id FROM placement JOIN key ON key.id = placement.key_id"
                                " WHERE placement.key_path = ?2 AND key.state <> 7 AND placement.destroyed = 0)",
                                NULL, row_living},
};

int sqlite_select(struct store *base, enum store_select_kind kind, const struct store_filter *filter, store_row *row, void *context,
                  struct error *error) {
  struct selection selection = {.store = sqlite_store_of(base),
                                .filter = filter,
                                .row = row,
                                .context = context,
                                .left = filter->limit ? (int64_t)filter->limit : INT64_MAX};
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const struct selection_kind *how = &KINDS[kind];
  int code = sqlite_query_begin(selection.store, filter->descending && how->sql_descending ? how->sql_descending : how->sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, filter->domain);
  sqlite_bind_text(&query, filter->text);
  sqlite_bind_number(&query, filter->after);
  return select_rows(&selection, &query, how->row, error);
}
