#include "dkimroll/store_sqlite.h"

#include "dkimroll/cleanup.h"

static int moment_read(struct sqlite_store *store, int64_t *ret_next, struct error *error) {
  /* Subqueries, because only a lone min() is answered by one look into the index. */
  static const char sql[] = "SELECT EXISTS (SELECT 1 FROM request),"
                            " (SELECT min(next_moment) FROM lineage WHERE forgotten = 0)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (!code) code = sqlite_query_step(&query, &row, error);
  if (code) return code;
  const bool asked = sqlite_read_bool(&query);
  const int64_t next = sqlite_read_moment(&query);
  code = sqlite_query_check(&query, "lineage", 0, error);
  if (code) return code;
  *ret_next = next == TIME_UNSET ? TIME_NEVER : next;
  /* A request is due at any time, also when the clock was set back after it was asked. */
  if (asked) *ret_next = time_min(*ret_next, 0);
  return 0;
}

static int clock_fetch(struct sqlite_store *store, struct store_clock *ret_clock, struct error *error) {
  static const char sql[] = "SELECT boot_id, wall, boottime, credited, attested FROM clock WHERE id = 1";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  *ret_clock = (struct store_clock){.wall = TIME_UNSET};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (!code) code = sqlite_query_step(&query, &row, error);
  if (code || !row) return code;
  sqlite_read_into(&query, ret_clock->boot_id, sizeof ret_clock->boot_id);
  ret_clock->wall = sqlite_read_number(&query, TIME_UNSET, TIME_NEVER);
  ret_clock->boottime = sqlite_read_number(&query, INT64_MIN, INT64_MAX);
  ret_clock->credited = sqlite_read_number(&query, TIME_UNSET, TIME_NEVER);
  ret_clock->attested = sqlite_read_bool(&query);
  return sqlite_query_check(&query, "clock", 1, error);
}

int sqlite_next_moment(struct store *base, int64_t *ret_next, struct store_policy_stamp *ret_stamp,
                       struct store_clock *ret_clock, struct error *error) {
  struct sqlite_store *store = sqlite_store_of(base);
  CLEANUP(store_policy_stamp_release) struct store_policy_stamp stamp = {0};
  struct store_clock clock;
  int64_t next = TIME_NEVER;
  int code = moment_read(store, &next, error);
  if (!code && ret_stamp) code = sqlite_stamp_read(store, &stamp, error);
  if (!code && ret_clock) code = clock_fetch(store, &clock, error);
  if (code) return code;
  *ret_next = next;
  if (ret_clock) *ret_clock = clock;
  if (ret_stamp) {
    *ret_stamp = stamp;
    stamp = (struct store_policy_stamp){0};
  }
  return 0;
}
