/* What dkimroll knows, as metrics in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/), for node_exporter's textfile
 * collector. All are gauges; every name, its labels and its meaning are in dkimroll(8). */
#ifndef DKIMROLL_METRICS_H
#define DKIMROLL_METRICS_H

#include "dkimroll/buffer.h"
#include "dkimroll/findings.h"
#include "dkimroll/lifecycle.h"
#include "dkimroll/store.h"

enum {
  METRICS_FAMILY_MAX = 64 * 1024 * 1024, /* octets of all series of one name: POLICY_METRICS_DOMAINS_MAX domains with LINEAGE_KEYS_MAX keys in 7 states stay below */
  METRICS_FILE_MAX = 256 * 1024 * 1024,
  METRICS_SERVERS_MAX = 256,   /* addresses of name servers with series of their own: the first that are met */
  METRICS_TROUBLED_MAX = 100,  /* domains in trouble that are named at least */
  METRICS_PUBLISHERS_MAX = 2 * POLICY_ENTRIES_MAX,
};

/* What belongs to no lineage. */
struct metrics_facts {
  int64_t run_at;       /* when dkimroll looked what is due */
  int64_t compiled_at;  /* TIME_UNSET: not known */
  bool policy_current;  /* the policy is as it was compiled */
  int64_t next;         /* when something is due; TIME_NEVER */
};

struct metrics;

/* domains: up to so many have series of their own. clock is borrowed. */
int metrics_new(size_t domains, const struct plan_clock *clock, struct metrics **ret_metrics, struct error *error) ERROR_USE_RESULT;
void metrics_free(struct metrics *metrics); /* NULL is fine */
/* The lineages, in the order of their domains. problems: how many failed findings status has of it. */
void metrics_add_lineage(struct metrics *metrics, const struct lineage *lineage, size_t problems);
void metrics_add_resource(struct metrics *metrics, const struct store_resource *resource);
void metrics_add_publisher_clock(struct metrics *metrics, const struct store_publisher_clock *clock);
void metrics_add_request(struct metrics *metrics, const struct store_request *request);
/* After all of them: the whole text. problems: different ones. ERROR_NO_MEMORY, ERROR_LIMIT. */
int metrics_finish(struct metrics *metrics, const struct metrics_facts *facts, size_t problems, struct buffer *ret_text, struct error *error) ERROR_USE_RESULT;

/* One series, for metrics.c and metrics_lineage.c. labels: {name, value} pairs, up to the first NULL name. */
enum metrics_name {
  METRIC_LAST_RUN,
  METRIC_BUILD_INFO,
  METRIC_POLICY_COMPILED,
  METRIC_POLICY_CURRENT,
  METRIC_CLOCK_ATTESTED,
  METRIC_NEXT_STEP,
  METRIC_DOMAINS,
  METRIC_DOMAINS_SIGNED,
  METRIC_DOMAINS_IN_TROUBLE,
  METRIC_PROBLEMS,
  METRIC_REQUESTS_WAITING,
  METRIC_LINEAGES,
  METRIC_LINEAGES_FAILING,
  METRIC_LINEAGES_PARKED,
  METRIC_LINEAGES_HELD,
  METRIC_LINEAGES_UNMANAGED,
  METRIC_LINEAGES_OVERDUE,
  METRIC_KEYS,
  METRIC_OLDEST_ACTIVE_KEY,
  METRIC_OLDEST_PROOF,
  METRIC_POLICY_NEXT_TRANSITION,
  METRIC_SIGNER_DAMAGED_KEYS,
  METRIC_SERVER_LAG,
  METRIC_SERVER_WRONG_RECORDS,
  METRIC_SERVER_SEEN,
  METRIC_PUBLISHER_FAILURES,
  METRIC_PUBLISHER_RETRY,
  METRIC_TSIG_CLOCK_SKEW,
  METRIC_TSIG_CLOCK_MEASURED,
  METRIC_DOMAIN_PROBLEMS,
  METRIC_KEY_INFO,
  METRIC_KEY_STATE,
  METRIC_NEXT_TRANSITION,
  METRIC_LINEAGE_FAILURES,
  METRIC_LINEAGE_HELD,
  METRIC_LINEAGE_PARKED,
  METRIC_KEY_PROPAGATION,
  METRIC_KEY_PROVED,
};
enum { METRICS_NAMES = METRIC_KEY_PROVED + 1 };
/* The first that has series for each domain, beside METRIC_DOMAIN_PROBLEMS. */
#define METRICS_OF_DOMAINS METRIC_KEY_INFO

struct metrics_label {
  const char *name;
  const char *value;
};
void metrics_series(struct buffer *family, enum metrics_name name, const struct metrics_label *labels, int64_t value);
/* "dkimroll_keys" */
const char *metrics_family_name(enum metrics_name name);
void metrics_lineage_series(struct buffer families[METRICS_NAMES], const struct lineage *lineage, const struct plan_clock *clock);

#endif
