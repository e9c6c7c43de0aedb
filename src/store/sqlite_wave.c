#include "dkimroll/store_sqlite.h"

#include "dkimroll/cleanup.h"

static unsigned read_count(struct sqlite_query *query) { return (unsigned)sqlite_read_number(query, 0, UINT32_MAX); }

int sqlite_wave_read(struct sqlite_query *query, struct wave *ret_wave, struct error *error) {
  struct wave *wave = ret_wave;
  wave_begin(wave);
  wave->limits.max_per_run = read_count(query);
  wave->limits.budget = sqlite_read_bool(query);
  wave->limits.percent = sqlite_read_bool(query);
  wave->limits.failures = read_count(query);
  wave->run = sqlite_read_moment(query);
  wave->begun = read_count(query);
  wave->switched = read_count(query);
  wave->late_begun = read_count(query);
  wave->late_switched = read_count(query);
  wave->period = sqlite_read_moment(query);
  wave->ended = read_count(query);
  wave->failed = read_count(query);
  sqlite_read_into(query, wave->first, sizeof wave->first);
  wave->first_action = (enum plan_action)sqlite_read_number(query, PLAN_NONE, PLAN_REPAIR);
  wave->stopped_at = sqlite_read_moment(query);
  wave->stopped_ended = read_count(query);
  wave->stopped_failed = read_count(query);
  wave->probe_at = sqlite_read_moment(query);
  wave->probes = read_count(query);
  return sqlite_query_check(query, "wave", 1, error);
}

int sqlite_wave_write(struct sqlite_store *store, const struct wave *wave, struct error *error) {
  static const char sql[] = "INSERT INTO wave (id, max_per_run, budget, percent, failures, run, begun, switched, late_begun, late_switched, period, ended,"
                            " failed, first, first_action, stopped_at, stopped_ended, stopped_failed, probe_at, probes)"
                            " VALUES (1, 0, 0, 0, 0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) ON CONFLICT (id) DO UPDATE"
                            " SET run = ?1, begun = ?2, switched = ?3, late_begun = ?4, late_switched = ?5, period = ?6, ended = ?7, failed = ?8,"
                            " first = ?9, first_action = ?10, stopped_at = ?11, stopped_ended = ?12, stopped_failed = ?13, probe_at = ?14, probes = ?15";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_moment(&query, wave->run);
  sqlite_bind_number(&query, wave->begun);
  sqlite_bind_number(&query, wave->switched);
  sqlite_bind_number(&query, wave->late_begun);
  sqlite_bind_number(&query, wave->late_switched);
  sqlite_bind_moment(&query, wave->period);
  sqlite_bind_number(&query, wave->ended);
  sqlite_bind_number(&query, wave->failed);
  sqlite_bind_text(&query, wave->first);
  sqlite_bind_number(&query, wave->first_action);
  sqlite_bind_moment(&query, wave->stopped_at);
  sqlite_bind_number(&query, wave->stopped_ended);
  sqlite_bind_number(&query, wave->stopped_failed);
  sqlite_bind_moment(&query, wave->probe_at);
  sqlite_bind_number(&query, wave->probes);
  return sqlite_query_run(&query, NULL, error);
}

int sqlite_wave_limit(struct sqlite_store *store, const struct policy_limits *limits, struct error *error) {
  static const char sql[] = "INSERT INTO wave (id, max_per_run, budget, percent, failures) VALUES (1, ?1, ?2, ?3, ?4)"
                            " ON CONFLICT (id) DO UPDATE SET max_per_run = ?1, budget = ?2, percent = ?3, failures = ?4";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, limits->max_per_run);
  sqlite_bind_number(&query, limits->budget);
  sqlite_bind_number(&query, limits->percent);
  sqlite_bind_number(&query, limits->failures);
  return sqlite_query_run(&query, NULL, error);
}

/* By the index over next_moment: only those that wait are touched. */
int sqlite_wave_wake(struct sqlite_store *store, int64_t from, int64_t to, struct error *error) {
  static const char sql[] = "UPDATE lineage SET next_moment = ? WHERE next_moment = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, to);
  sqlite_bind_number(&query, from);
  return sqlite_query_run(&query, NULL, error);
}
