#include "dkimroll/store_sqlite.h"

#include "dkimroll/cleanup.h"

static unsigned read_count(struct sqlite_query *query) { return (unsigned)sqlite_read_number(query, 0, UINT32_MAX); }

static void places_read(struct sqlite_query *query, struct wave_places *ret_places) {
  ret_places->taken = read_count(query);
  ret_places->last = sqlite_read_moment(query);
  ret_places->given = read_count(query);
}

int sqlite_wave_read(struct sqlite_query *query, struct wave *ret_wave, struct error *error) {
  struct wave *wave = ret_wave;
  wave_begin(wave);
  wave->limits.max_per_run = read_count(query);
  wave->limits.budget = sqlite_read_bool(query);
  wave->limits.percent = sqlite_read_bool(query);
  wave->limits.failures = read_count(query);
  wave->run = sqlite_read_moment(query);
  places_read(query, &wave->begins);
  places_read(query, &wave->switches);
  wave->away_since = sqlite_read_moment(query);
  wave->returned_at = sqlite_read_moment(query);
  wave->spread = sqlite_read_number(query, 0, INT64_MAX);
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

static void places_bind(struct sqlite_query *query, const struct wave_places *places) {
  sqlite_bind_number(query, places->taken);
  sqlite_bind_moment(query, places->last);
  sqlite_bind_number(query, places->given);
}

int sqlite_wave_write(struct sqlite_store *store, const struct wave *wave, struct error *error) {
  static const char sql[] = "INSERT INTO wave (id, max_per_run, budget, percent, failures, run, begun, begin_last, begin_given, switched, switch_last,"
                            " switch_given, away_since, returned_at, spread, period, ended, failed, first, first_action, stopped_at, stopped_ended,"
                            " stopped_failed, probe_at, probes)"
                            " VALUES (1, 0, 0, 0, 0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)"
                            " ON CONFLICT (id) DO UPDATE"
                            " SET run = ?1, begun = ?2, begin_last = ?3, begin_given = ?4, switched = ?5, switch_last = ?6, switch_given = ?7,"
                            " away_since = ?8, returned_at = ?9, spread = ?10, period = ?11, ended = ?12, failed = ?13, first = ?14, first_action = ?15,"
                            " stopped_at = ?16, stopped_ended = ?17, stopped_failed = ?18, probe_at = ?19, probes = ?20";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_moment(&query, wave->run);
  places_bind(&query, &wave->begins);
  places_bind(&query, &wave->switches);
  sqlite_bind_moment(&query, wave->away_since);
  sqlite_bind_moment(&query, wave->returned_at);
  sqlite_bind_number(&query, wave->spread);
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

/* Places are counted by the limit that they were given under: with another one all that wait find new ones. */
static int places_forget(struct sqlite_store *store, int64_t max_per_run, int64_t now, struct error *error) {
  static const char sql[] = "UPDATE lineage SET begin_place = NULL, switch_place = NULL, next_moment = min(next_moment, ?1)"
                            " WHERE (begin_place IS NOT NULL OR switch_place IS NOT NULL) AND EXISTS (SELECT 1 FROM wave WHERE max_per_run <> ?2)";
  static const char sql_wave[] = "UPDATE wave SET begin_last = NULL, switch_last = NULL WHERE max_per_run <> ?1";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  CLEANUP(sqlite_query_end) struct sqlite_query query_wave = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, now);
  sqlite_bind_number(&query, max_per_run);
  code = sqlite_query_run(&query, NULL, error);
  if (!code) code = sqlite_query_begin(store, sql_wave, &query_wave, error);
  if (code) return code;
  sqlite_bind_number(&query_wave, max_per_run);
  return sqlite_query_run(&query_wave, NULL, error);
}

int sqlite_wave_limit(struct sqlite_store *store, const struct policy_limits *limits, int64_t now, struct error *error) {
  static const char sql[] = "INSERT INTO wave (id, max_per_run, budget, percent, failures) VALUES (1, ?1, ?2, ?3, ?4)"
                            " ON CONFLICT (id) DO UPDATE SET max_per_run = ?1, budget = ?2, percent = ?3, failures = ?4";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = places_forget(store, limits->max_per_run, now, error);
  if (!code) code = sqlite_query_begin(store, sql, &query, error);
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
