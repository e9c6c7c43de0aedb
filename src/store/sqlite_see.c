/* What the store remembers for metrics and hooks. */
#include "dkimroll/store_sqlite.h"

#include "dkimroll/cleanup.h"

static int meta_write(struct sqlite_store *store, const char *key, const char *value, struct error *error) {
  static const char sql[] = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, key);
  sqlite_bind_text(&query, value);
  return sqlite_query_run(&query, NULL, error);
}

static int meta_write_number(struct sqlite_store *store, const char *key, int64_t number, struct error *error) {
  char text[32];
  snprintf(text, sizeof text, "%lld", (long long)number);
  return meta_write(store, key, text, error);
}

/* A file of "" is none. */
int sqlite_metrics_write(struct sqlite_store *store, const struct policy *policy, int64_t now, struct error *error) {
  int code = meta_write(store, "metrics-file", policy->metrics.file ? policy->metrics.file : "", error);
  if (!code) code = meta_write_number(store, "metrics-domains", policy->metrics.domains, error);
  if (!code) code = meta_write_number(store, "policy-compiled", now, error);
  return code;
}

int sqlite_metrics_read(struct sqlite_store *store, struct store_policy_stamp *stamp, struct error *error) {
  static const char sql[] = "SELECT (SELECT nullif(value, '') FROM meta WHERE key = 'metrics-file'),"
                            " (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'metrics-domains'),"
                            " (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'policy-compiled')";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (!code) code = sqlite_query_step(&query, &row, error);
  if (!code) code = sqlite_read_text(&query, &stamp->metrics_file, error);
  if (code) return code;
  const int64_t domains = sqlite_read_moment(&query);
  stamp->metrics_domains = domains == TIME_UNSET ? 0 : domains;
  stamp->compiled_at = sqlite_read_moment(&query);
  return sqlite_query_check(&query, "meta", 0, error);
}

int sqlite_publisher_clock_write(struct sqlite_store *store, const struct store_publisher_clock *clock, struct error *error) {
  static const char sql[] = "INSERT INTO publisher_clock (publisher_id, skew, measured_at) VALUES (?1, ?2, ?3)"
                            " ON CONFLICT (publisher_id) DO UPDATE SET skew = ?2, measured_at = ?3";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, clock->publisher_id);
  sqlite_bind_number(&query, clock->skew);
  sqlite_bind_number(&query, clock->measured_at);
  return sqlite_query_run(&query, NULL, error);
}

static int alarm_end(struct sqlite_store *store, const struct store_alarm *alarm, struct error *error) {
  static const char sql[] = "DELETE FROM alarm WHERE subject = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, alarm->subject);
  return sqlite_query_run(&query, NULL, error);
}

int sqlite_alarm_write(struct sqlite_store *store, const struct store_alarm *alarm, struct error *error) {
  static const char sql[] = "INSERT INTO alarm (subject, domain, since, told_at, text) VALUES (?1, ?2, ?3, ?4, ?5)"
                            " ON CONFLICT (subject) DO UPDATE SET domain = ?2, since = ?3, told_at = ?4, text = ?5";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  if (alarm->since == TIME_UNSET) return alarm_end(store, alarm, error);
  const int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, alarm->subject);
  sqlite_bind_text(&query, alarm->domain);
  sqlite_bind_number(&query, alarm->since);
  sqlite_bind_moment(&query, alarm->told_at);
  sqlite_bind_text(&query, alarm->text);
  return sqlite_query_run(&query, NULL, error);
}

static int told_forget(struct sqlite_store *store, struct error *error) {
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(store, "DELETE FROM meta WHERE key = 'told-event'", &query, error);
  return code ? code : sqlite_query_run(&query, NULL, error);
}

int sqlite_told_write(struct sqlite_store *store, int64_t event, struct error *error) {
  if (event == STORE_NOTHING_TOLD) return told_forget(store, error);
  return meta_write_number(store, "told-event", event, error);
}
