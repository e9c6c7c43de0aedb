/* The names of all metrics, and how one series is written. */
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/metrics.h"

/* One line of help each: what a dashboard shows beside the graph. */
static const struct {
  const char *name, *help;
} NAMES[] = {
    [METRIC_LAST_RUN] = {"last_run_timestamp_seconds", "When dkimroll last looked what is due."},
    [METRIC_BUILD_INFO] = {"build_info", "1, with the version as label."},
    [METRIC_POLICY_COMPILED] = {"policy_compiled_timestamp_seconds", "When the policy in force was compiled into the store."},
    [METRIC_POLICY_CURRENT] = {"policy_current", "1 if the policy in force is that of the file; 0 if the file was changed since, or cannot be read."},
    [METRIC_CLOCK_ATTESTED] = {"clock_attested", "1 if the kernel or a signed reply vouches for the clock; without that no key is switched or ended."},
    [METRIC_NEXT_STEP] = {"next_step_timestamp_seconds", "When something is due next, looks at name servers included."},
    [METRIC_DOMAINS] = {"domains", "Domains that dkimroll keeps keys for."},
    [METRIC_DOMAINS_SIGNED] = {"domains_signed", "Domains with an active key in each slot."},
    [METRIC_DOMAINS_IN_TROUBLE] = {"domains_in_trouble", "Domains of which dkimroll status says that something is wrong."},
    [METRIC_PROBLEMS] = {"problems", "Different things that dkimroll status says are wrong with domains."},
    [METRIC_REQUESTS_WAITING] = {"requests_waiting", "Wishes of people (rotate, hold, ...) that are not carried out yet."},
    [METRIC_LINEAGES] = {"lineages", "Successions of keys, one for each slot of each domain."},
    [METRIC_LINEAGES_FAILING] = {"lineages_failing", "Lineages whose present step has failed."},
    [METRIC_LINEAGES_PARKED] = {"lineages_parked", "Lineages that kept failing and are tried but once a day."},
    [METRIC_LINEAGES_HELD] = {"lineages_held", "Lineages that somebody holds."},
    [METRIC_LINEAGES_UNMANAGED] = {"lineages_unmanaged", "Lineages that are not in the policy any more."},
    [METRIC_LINEAGES_OVERDUE] = {"lineages_overdue", "Lineages with a step that was due hours ago: nobody runs dkimroll."},
    [METRIC_KEYS] = {"keys", "Keys by state."},
    [METRIC_OLDEST_ACTIVE_KEY] = {"oldest_active_key_timestamp_seconds", "When the active key that signs for the longest time took over."},
    [METRIC_OLDEST_PROOF] = {"oldest_proof_timestamp_seconds", "The oldest last proof, by a signature, of a key that signs."},
    [METRIC_POLICY_NEXT_TRANSITION] = {"policy_next_transition_timestamp_seconds", "When the next key of the policy changes its state, if time alone decides."},
    [METRIC_SIGNER_DAMAGED_KEYS] = {"signer_damaged_keys", "Active keys with which the signer did not sign as it should, by the last proof."},
    [METRIC_SERVER_LAG] = {"server_lag_seconds",
                           "How long the name server took to serve the newest record, without a break since; how long it lacks it, if it does."},
    [METRIC_SERVER_WRONG_RECORDS] = {"server_wrong_records", "Records that the name server did not serve as it should when it was last asked."},
    [METRIC_SERVER_SEEN] = {"server_seen_timestamp_seconds", "When the name server was last asked."},
    [METRIC_PUBLISHER_FAILURES] = {"publisher_failures", "Operations in a row that could not reach the publisher's server."},
    [METRIC_PUBLISHER_RETRY] = {"publisher_retry_timestamp_seconds", "When a publisher that cannot be reached is tried again."},
    [METRIC_TSIG_CLOCK_SKEW] = {"tsig_clock_skew_seconds", "How much the clock of the publisher's server is ahead of this host's, by its last signed reply."},
    [METRIC_TSIG_CLOCK_MEASURED] = {"tsig_clock_measured_timestamp_seconds", "When that reply came."},
    [METRIC_DOMAIN_PROBLEMS] = {"domain_problems", "Things that dkimroll status says are wrong with the domain; only domains in trouble have it."},
    [METRIC_KEY_INFO] = {"key_info", "1, with state, policy and kind of the key as labels."},
    [METRIC_KEY_STATE] = {"key_state_timestamp_seconds", "When the key came into the state, for each that it has reached."},
    [METRIC_NEXT_TRANSITION] = {"next_transition_timestamp_seconds", "When the key's next step is possible, if time alone decides."},
    [METRIC_LINEAGE_FAILURES] = {"lineage_failures", "Failures in a row of the lineage's present step."},
    [METRIC_LINEAGE_HELD] = {"lineage_held", "1 if somebody holds the lineage."},
    [METRIC_LINEAGE_PARKED] = {"lineage_parked", "1 if the lineage kept failing and is tried but once a day."},
    [METRIC_KEY_PROPAGATION] = {"key_propagation_seconds", "From the publication of the record until every server had it for the first time."},
    [METRIC_KEY_PROVED] = {"key_proved_timestamp_seconds", "When the signer was last seen to sign with the key."},
};
_Static_assert(ARRAY_SIZE(NAMES) == METRICS_NAMES, "a name and a line of help for each");

#define PREFIX "dkimroll_"

const char *metrics_family_name(enum metrics_name name) { return NAMES[name].name; }

/* Length of the UTF-8 character at text; 0: it is none. The format is UTF-8, and one wrong octet would make readers refuse the whole file. */
static size_t character_size(const unsigned char *at) {
  static const struct {
    unsigned char mask, lead;
    size_t size;
    uint32_t least;
  } forms[] = {{0x80, 0x00, 1, 0}, {0xe0, 0xc0, 2, 0x80}, {0xf0, 0xe0, 3, 0x800}, {0xf8, 0xf0, 4, 0x10000}};
  for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
    if ((at[0] & forms[i].mask) != forms[i].lead) continue;
    uint32_t code = at[0] & (uint32_t)(unsigned char)~forms[i].mask;
    for (size_t j = 1; j < forms[i].size; j++) {
      if ((at[j] & 0xc0) != 0x80) return 0;
      code = code << 6 | (at[j] & 0x3f);
    }
    const bool surrogate = code >= 0xd800 && code < 0xe000;
    return code >= forms[i].least && code <= 0x10ffff && !surrogate ? forms[i].size : 0;
  }
  return 0;
}

static void add_value(struct buffer *family, const char *value) {
  for (const unsigned char *at = (const unsigned char *)value; *at;) {
    const size_t size = character_size(at);
    if (*at == '\\' || *at == '"')
      buffer_format(family, "\\%c", *at);
    else if (*at == '\n')
      buffer_add_text(family, "\\n");
    else if (size > 0)
      buffer_add(family, at, size);
    else
      buffer_add_text(family, "\xef\xbf\xbd"); /* U+FFFD */
    at += size ? size : 1;
  }
}

void metrics_series(struct buffer *family, enum metrics_name name, const struct metrics_label *labels, int64_t value) {
  if (family->size == 0) buffer_format(family, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s gauge\n", NAMES[name].name, NAMES[name].help, NAMES[name].name);
  buffer_format(family, PREFIX "%s", NAMES[name].name);
  for (size_t i = 0; labels && labels[i].name; i++) {
    buffer_format(family, "%s%s=\"", i == 0 ? "{" : ",", labels[i].name);
    add_value(family, labels[i].value);
    buffer_add_text(family, "\"");
  }
  buffer_format(family, "%s %lld\n", labels && labels[0].name ? "}" : "", (long long)value);
}
