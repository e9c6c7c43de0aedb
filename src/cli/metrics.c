#include "dkimroll/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"

enum { STATES = KEY_REVOKED + 1 };

#define END {NULL, NULL}
#define LABELS(...) ((const struct metrics_label[]){__VA_ARGS__, END})

/* All lineages that follow one policy, by its name: what earlier versions of it said counts with it. */
struct policy_sum {
  char name[POLICY_NAME_MAX + 1];
  int64_t lineages, failing, parked, held, unmanaged, overdue, keys[STATES];
  int64_t oldest_active, oldest_proof, next;
};

struct signer_sum {
  char name[POLICY_NAME_MAX + 1];
  int64_t damaged;
};

struct server_sum {
  char host[DNS_NAME_TEXT_SIZE], address[ADDRESS_TEXT_SIZE];
  int64_t wrong, seen_at, published_at, lag;
};

/* A version of a publisher, so that what is stored under its row can be told under its name. */
struct publisher_version {
  int64_t id;
  char name[POLICY_NAME_MAX + 1];
};
struct publisher_sum {
  char name[POLICY_NAME_MAX + 1];
  int64_t failures, retry_at;
  bool measured;
  int64_t skew, measured_at;
};

struct metrics {
  size_t limit;
  const struct plan_clock *clock;
  struct buffer families[METRICS_NAMES];
  struct policy_sum policies[POLICY_ENTRIES_MAX];
  size_t policy_count;
  struct signer_sum signers[POLICY_ENTRIES_MAX];
  size_t signer_count;
  struct server_sum servers[METRICS_SERVERS_MAX];
  size_t server_count;
  struct publisher_version versions[METRICS_PUBLISHERS_MAX];
  size_t version_count;
  struct publisher_sum publishers[METRICS_PUBLISHERS_MAX];
  size_t publisher_count;
  int64_t domains, signed_domains, troubled, requests, named;
  bool too_many; /* domains, to have series of their own */
  /* The domain whose lineages come now. */
  char domain[DNS_NAME_TEXT_SIZE];
  bool domain_signed;
  int64_t domain_problems;
};

int metrics_new(size_t domains, const struct plan_clock *clock, struct metrics **ret_metrics, struct error *error) {
  struct metrics *metrics = calloc(1, sizeof *metrics);
  if (!metrics) return error_set(error, ERROR_NO_MEMORY, "out of memory for metrics");
  metrics->limit = domains;
  metrics->clock = clock;
  metrics->too_many = domains == 0;
  for (size_t i = 0; i < METRICS_NAMES; i++) metrics->families[i] = BUFFER_WITH_MAXIMUM(METRICS_FAMILY_MAX);
  *ret_metrics = metrics;
  return 0;
}

void metrics_free(struct metrics *metrics) {
  if (!metrics) return;
  for (size_t i = 0; i < METRICS_NAMES; i++) buffer_release(&metrics->families[i]);
  free(metrics);
}

static void add(struct metrics *metrics, enum metrics_name name, const struct metrics_label *labels, int64_t value) {
  metrics_series(&metrics->families[name], name, labels, value);
}

/* ---- finding the sums; NULL: no room ---- */

static struct policy_sum *policy_of(struct metrics *metrics, const char *name) {
  for (size_t i = metrics->policy_count; i > 0; i--)
    if (text_equal(metrics->policies[i - 1].name, name)) return &metrics->policies[i - 1];
  if (metrics->policy_count == POLICY_ENTRIES_MAX) return NULL;
  struct policy_sum *sum = &metrics->policies[metrics->policy_count++];
  *sum = (struct policy_sum){.oldest_active = TIME_NEVER, .oldest_proof = TIME_NEVER, .next = TIME_NEVER};
  text_copy(sum->name, sizeof sum->name, name);
  return sum;
}

static struct signer_sum *signer_of(struct metrics *metrics, const char *name) {
  for (size_t i = 0; i < metrics->signer_count; i++)
    if (text_equal(metrics->signers[i].name, name)) return &metrics->signers[i];
  if (metrics->signer_count == POLICY_ENTRIES_MAX) return NULL;
  struct signer_sum *sum = &metrics->signers[metrics->signer_count++];
  text_copy(sum->name, sizeof sum->name, name);
  return sum;
}

static struct server_sum *server_of(struct metrics *metrics, const struct sighting *seen) {
  for (size_t i = 0; i < metrics->server_count; i++)
    if (text_equal(metrics->servers[i].address, seen->address) && text_equal(metrics->servers[i].host, seen->host)) return &metrics->servers[i];
  if (metrics->server_count == METRICS_SERVERS_MAX) return NULL;
  struct server_sum *sum = &metrics->servers[metrics->server_count++];
  *sum = (struct server_sum){.seen_at = TIME_UNSET, .published_at = TIME_UNSET};
  text_copy(sum->host, sizeof sum->host, seen->host);
  text_copy(sum->address, sizeof sum->address, seen->address);
  return sum;
}

static struct publisher_sum *publisher_of(struct metrics *metrics, const char *name) {
  for (size_t i = 0; i < metrics->publisher_count; i++)
    if (text_equal(metrics->publishers[i].name, name)) return &metrics->publishers[i];
  if (metrics->publisher_count == METRICS_PUBLISHERS_MAX) return NULL;
  struct publisher_sum *sum = &metrics->publishers[metrics->publisher_count++];
  *sum = (struct publisher_sum){.retry_at = TIME_UNSET};
  text_copy(sum->name, sizeof sum->name, name);
  return sum;
}

static void note_publisher(struct metrics *metrics, int64_t id, const struct policy_publisher *publisher) {
  for (size_t i = metrics->version_count; i > 0; i--)
    if (metrics->versions[i - 1].id == id) return;
  if (metrics->version_count == METRICS_PUBLISHERS_MAX || !publisher_of(metrics, publisher->name)) return;
  struct publisher_version *version = &metrics->versions[metrics->version_count++];
  version->id = id;
  text_copy(version->name, sizeof version->name, publisher->name);
}

/* ---- one lineage ---- */

/* Whether servers must have been asked about the key: there is a record of it, or there was one. */
static bool is_watched(const struct key *key) { return key->state >= KEY_PUBLISHED && key->published_at != TIME_UNSET; }

static void sum_servers(struct metrics *metrics, const struct key *key) {
  for (size_t i = 0; i < key->sighting_count && is_watched(key); i++) {
    const struct sighting *seen = &key->sightings[i];
    struct server_sum *sum = server_of(metrics, seen);
    if (!sum || seen->seen_at == TIME_UNSET) continue;
    sum->wrong += !timing_sighting_counts(key, i);
    sum->seen_at = time_max(sum->seen_at, seen->seen_at);
    if (key->deleted_at != TIME_UNSET || key->published_at < sum->published_at) continue;
    const int64_t until = seen->right ? seen->right_since : seen->seen_at;
    sum->published_at = key->published_at;
    sum->lag = time_max(0, until - key->published_at);
  }
}

static void sum_active(struct metrics *metrics, struct policy_sum *sum, const struct lineage *lineage, const struct key *key) {
  sum->oldest_active = time_min(sum->oldest_active, key->active_at);
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    struct signer_sum *signer = signer_of(metrics, placement->signer->name);
    if (!placement_signs(lineage, key, i)) continue;
    sum->oldest_proof = time_min(sum->oldest_proof, placement->proved_at);
    if (signer) signer->damaged += placement->damage != DAMAGE_NONE;
  }
}

static void sum_lineage(struct metrics *metrics, const struct lineage *lineage) {
  const int64_t now = metrics->clock->now;
  struct policy_sum *sum = policy_of(metrics, lineage->rules->name);
  if (!sum) return;
  sum->lineages++;
  sum->failing += lineage->failures > 0;
  sum->parked += lineage->parked_at != TIME_UNSET;
  sum->held += lineage->held && now < lineage->hold_until;
  sum->unmanaged += !lineage->managed;
  sum->overdue += lineage->next_moment != TIME_NEVER && time_add(lineage->next_moment, STATUS_OVERDUE_SECONDS) <= now;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    sum->keys[key->state]++;
    if (key->state == KEY_ACTIVE) sum_active(metrics, sum, lineage, key);
    sum_servers(metrics, key);
    if (key->publisher) note_publisher(metrics, key->publisher_id, key->publisher);
  }
  for (size_t i = 0; i < status_row_count(lineage); i++) {
    struct status_step step;
    status_next_step(lineage, i, metrics->clock, &step);
    if (!text_equal(step.action, "-")) sum->next = time_min(sum->next, step.at);
  }
  note_publisher(metrics, lineage->publisher_id, lineage->publisher);
}

static void end_domain(struct metrics *metrics) {
  if (!metrics->domain[0]) return;
  metrics->domains++;
  metrics->signed_domains += metrics->domain_signed;
  metrics->troubled += metrics->domain_problems > 0;
  /* Those in trouble are named also where domains are too many, as far as anybody would read. */
  if (metrics->domain_problems == 0 || metrics->named >= (int64_t)(metrics->limit > METRICS_TROUBLED_MAX ? metrics->limit : METRICS_TROUBLED_MAX)) return;
  metrics->named++;
  add(metrics, METRIC_DOMAIN_PROBLEMS, LABELS({"domain", metrics->domain}), metrics->domain_problems);
}

/* One more than may have series of their own: those that were written are taken back. */
static void give_up_series(struct metrics *metrics) {
  metrics->too_many = true;
  for (size_t i = METRICS_OF_DOMAINS; i < METRICS_NAMES; i++) buffer_release(&metrics->families[i]);
}

static bool has_active_key(const struct lineage *lineage) {
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].state == KEY_ACTIVE) return true;
  return false;
}

void metrics_add_lineage(struct metrics *metrics, const struct lineage *lineage, size_t problems) {
  if (!text_equal(metrics->domain, lineage->domain)) {
    end_domain(metrics);
    text_copy(metrics->domain, sizeof metrics->domain, lineage->domain);
    metrics->domain_signed = true;
    metrics->domain_problems = 0;
    if (!metrics->too_many && metrics->domains == (int64_t)metrics->limit) give_up_series(metrics);
  }
  metrics->domain_signed &= has_active_key(lineage);
  metrics->domain_problems += (int64_t)problems;
  sum_lineage(metrics, lineage);
  if (!metrics->too_many) metrics_lineage_series(metrics->families, lineage, metrics->clock);
}

/* ---- what is about no lineage ---- */

void metrics_add_resource(struct metrics *metrics, const struct store_resource *resource) {
  static const char prefix[] = "publisher ";
  long long id = 0;
  if (!text_starts(resource->name, prefix) || !text_parse_number(resource->name + strlen(prefix), 1, INT64_MAX, &id)) return;
  for (size_t i = 0; i < metrics->version_count; i++) {
    struct publisher_sum *sum = metrics->versions[i].id == id ? publisher_of(metrics, metrics->versions[i].name) : NULL;
    if (!sum || resource->failures <= sum->failures) continue;
    sum->failures = resource->failures;
    sum->retry_at = resource->retry_at;
  }
}

void metrics_add_publisher_clock(struct metrics *metrics, const struct store_publisher_clock *clock) {
  struct publisher_sum *sum = publisher_of(metrics, clock->publisher);
  if (!sum) return;
  sum->measured = true;
  sum->skew = clock->skew;
  sum->measured_at = clock->measured_at;
}

void metrics_add_request(struct metrics *metrics, const struct store_request *request) {
  (void)request;
  metrics->requests++;
}

/* ---- the end ---- */

static void finish_policy(struct metrics *metrics, const struct policy_sum *sum) {
  const struct metrics_label *policy = LABELS({"policy", sum->name});
  add(metrics, METRIC_LINEAGES, policy, sum->lineages);
  add(metrics, METRIC_LINEAGES_FAILING, policy, sum->failing);
  add(metrics, METRIC_LINEAGES_PARKED, policy, sum->parked);
  add(metrics, METRIC_LINEAGES_HELD, policy, sum->held);
  add(metrics, METRIC_LINEAGES_UNMANAGED, policy, sum->unmanaged);
  add(metrics, METRIC_LINEAGES_OVERDUE, policy, sum->overdue);
  for (enum key_state state = KEY_RESERVED; state <= KEY_REVOKED; state++)
    add(metrics, METRIC_KEYS, LABELS({"policy", sum->name}, {"state", key_state_name(state)}), sum->keys[state]);
  if (sum->oldest_active != TIME_NEVER) add(metrics, METRIC_OLDEST_ACTIVE_KEY, policy, sum->oldest_active);
  if (sum->oldest_proof != TIME_NEVER && sum->oldest_proof != TIME_UNSET) add(metrics, METRIC_OLDEST_PROOF, policy, sum->oldest_proof);
  if (sum->next != TIME_NEVER) add(metrics, METRIC_POLICY_NEXT_TRANSITION, policy, sum->next);
}

static void finish_servers(struct metrics *metrics) {
  for (size_t i = 0; i < metrics->server_count; i++) {
    const struct server_sum *sum = &metrics->servers[i];
    const struct metrics_label *server = LABELS({"server", sum->host}, {"address", sum->address});
    if (sum->published_at != TIME_UNSET) add(metrics, METRIC_SERVER_LAG, server, sum->lag);
    add(metrics, METRIC_SERVER_WRONG_RECORDS, server, sum->wrong);
    if (sum->seen_at != TIME_UNSET) add(metrics, METRIC_SERVER_SEEN, server, sum->seen_at);
  }
  for (size_t i = 0; i < metrics->signer_count; i++)
    add(metrics, METRIC_SIGNER_DAMAGED_KEYS, LABELS({"signer", metrics->signers[i].name}), metrics->signers[i].damaged);
}

static void finish_publishers(struct metrics *metrics) {
  for (size_t i = 0; i < metrics->publisher_count; i++) {
    const struct publisher_sum *sum = &metrics->publishers[i];
    const struct metrics_label *publisher = LABELS({"publisher", sum->name});
    add(metrics, METRIC_PUBLISHER_FAILURES, publisher, sum->failures);
    if (sum->retry_at != TIME_UNSET) add(metrics, METRIC_PUBLISHER_RETRY, publisher, sum->retry_at);
    if (!sum->measured) continue;
    add(metrics, METRIC_TSIG_CLOCK_SKEW, publisher, sum->skew);
    add(metrics, METRIC_TSIG_CLOCK_MEASURED, publisher, sum->measured_at);
  }
}

static void finish_facts(struct metrics *metrics, const struct metrics_facts *facts, size_t problems) {
  add(metrics, METRIC_LAST_RUN, NULL, facts->run_at);
  add(metrics, METRIC_BUILD_INFO, LABELS({"version", DKIMROLL_VERSION}), 1);
  if (facts->compiled_at != TIME_UNSET) add(metrics, METRIC_POLICY_COMPILED, NULL, facts->compiled_at);
  add(metrics, METRIC_POLICY_CURRENT, NULL, facts->policy_current);
  add(metrics, METRIC_CLOCK_ATTESTED, NULL, metrics->clock->attested);
  if (facts->next != TIME_NEVER) add(metrics, METRIC_NEXT_STEP, NULL, time_max(facts->next, 0));
  add(metrics, METRIC_DOMAINS, NULL, metrics->domains);
  add(metrics, METRIC_DOMAINS_SIGNED, NULL, metrics->signed_domains);
  add(metrics, METRIC_DOMAINS_IN_TROUBLE, NULL, metrics->troubled);
  add(metrics, METRIC_PROBLEMS, NULL, (int64_t)problems);
  add(metrics, METRIC_REQUESTS_WAITING, NULL, metrics->requests);
}

int metrics_finish(struct metrics *metrics, const struct metrics_facts *facts, size_t problems, struct buffer *ret_text, struct error *error) {
  struct buffer text = BUFFER_WITH_MAXIMUM(METRICS_FILE_MAX);
  end_domain(metrics);
  finish_facts(metrics, facts, problems);
  for (size_t i = 0; i < metrics->policy_count; i++) finish_policy(metrics, &metrics->policies[i]);
  finish_servers(metrics);
  finish_publishers(metrics);
  for (size_t i = 0; i < METRICS_NAMES; i++) {
    const struct buffer *family = &metrics->families[i];
    if (family->failed) buffer_fail(&text, family);
    if (family->size > 0) buffer_add(&text, family->data, family->size);
  }
  if (!text.failed) {
    *ret_text = text;
    return 0;
  }
  const bool no_memory = text.no_memory;
  buffer_release(&text);
  if (no_memory) return error_set(error, ERROR_NO_MEMORY, "out of memory for metrics");
  error_set(error, ERROR_LIMIT, "the metrics are longer than %d MiB", METRICS_FILE_MAX / 1024 / 1024);
  return error_remedy(error, "give fewer domains series of their own: metrics: {domains: ...} in the policy");
}
