/* Actions: the words of one line, what each kind of word means, which faults were counted, and who does what the line says. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "sim_actions.h"

const char *const sim_fault_kinds[] = {
    "outage",       "refusal",  "servfail",  "truncation", "contradiction", "lost-request", "lost-reply", "lag",    "backup",   "primary-backup",
    "update-refused", "primary-clock", "record-deleted", "record-edited", "record-beside", "name-servers", "zone-ttl", "policy", "domain", "hold",
    "rotate",       "signer-down", "signer-refuses", "signer-hangs", "signer-cuts", "signer-loses", "reload-fails", "reload-lost", "tables", "clock-jump", "unsynchronised", "reboot", "crash", "power-cut", "keeper-fails",
    "keeper-hangs", "keeper-dies", "keeper-killed", "disk-full", "disk-write", "disk-sync", "revoke",
    "tool-fails", "tool-lies", "tool-hangs", "fragments-lost", "hold-activation", "forget", "tables-dropped",
    "signer-restart", "suspend", "away", "resolver", "receivers", "ipv6-route", "store-lost", "import", "how-to", NULL};

/* ---- the words of an action ---- */

bool sim_call_fail(struct sim_call *call, const char *what) {
  snprintf(call->why, call->size, "%s", what);
  return false;
}

bool sim_call_domain(struct sim_call *call, const char *word, size_t *ret_domain) {
  for (size_t i = 0; i < call->sim->domain_count; i++)
    if (text_equal(call->sim->zones[i].name, word)) {
      *ret_domain = i;
      return true;
    }
  return sim_call_fail(call, "there is no such domain in this world (a.test, b.test, ...)");
}

bool sim_call_number(struct sim_call *call, const char *word, const char *prefix, size_t limit, size_t *ret_index) {
  const size_t size = strlen(prefix);
  long long number = 0;
  char *end = NULL;
  number = strncmp(word, prefix, size) == 0 ? strtoll(word + size, &end, 10) : 0;
  if (number < 1 || (size_t)number > limit || !end || *end) return sim_call_fail(call, "there is no such server or signer in this world");
  *ret_index = (size_t)number - 1;
  return true;
}

bool sim_call_duration(struct sim_call *call, const char *word, int64_t *ret_milliseconds) {
  const bool negative = word[0] == '-';
  int64_t seconds = 0;
  if (!duration_parse(word + (negative || word[0] == '+'), &seconds)) return sim_call_fail(call, "that is no duration");
  *ret_milliseconds = (negative ? -seconds : seconds) * 1000;
  return true;
}

bool sim_call_percent(struct sim_call *call, const char *word, unsigned *ret_percent) {
  char *end = NULL;
  const long number = strtol(word, &end, 10);
  if (end == word || number < 0 || number > 100) return sim_call_fail(call, "that is no percentage");
  *ret_percent = (unsigned)number;
  return true;
}

void sim_call_count(struct sim_call *call, const char *kind) {
  for (size_t i = 0; sim_fault_kinds[i]; i++)
    if (text_equal(sim_fault_kinds[i], kind)) call->sim->result->counts.faults[i]++;
}

bool sim_call_until(struct sim_call *call, int64_t *until, const char *word, const char *kind) {
  int64_t duration = 0;
  if (!sim_call_duration(call, word, &duration)) return false;
  *until = sim_loop_now(call->sim->clock) + duration;
  sim_call_count(call, kind);
  return true;
}

uint64_t sim_fault_count(const struct sim *sim, const char *kind) {
  uint64_t count = 0;
  for (size_t i = 0; sim_fault_kinds[i]; i++)
    if (text_starts(sim_fault_kinds[i], kind)) count += sim->result->counts.faults[i];
  return count;
}

/* ---- who does it ---- */

static const struct sim_row *find_row(const char *word) {
  static const struct sim_row *const tables[] = {sim_actions_dns, sim_actions_signers, sim_actions_host, sim_actions_operators, sim_actions_oracle};
  for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
    for (const struct sim_row *row = tables[i]; row->word; row++)
      if (text_equal(row->word, word)) return row;
  return NULL;
}

bool sim_action_do(struct sim *sim, const struct sim_action *action, char *why, size_t size) {
  struct sim_call call = {.sim = sim, .why = why, .size = size};
  char text[SIM_LINE], *rest = text;
  text_copy(text, sizeof text, action->text);
  why[0] = '\0';
  for (char *word; call.count < SIM_WORDS_MAX && (word = strsep(&rest, " \t")) != NULL;)
    if (*word) call.words[call.count++] = word;
  sim_trace(sim, "-- %s", action->text);
  const struct sim_row *row = call.count ? find_row(call.words[0]) : NULL;
  if (!row) return sim_call_fail(&call, "there is no such action");
  if (row->run(&call)) return true;
  return why[0] ? false : sim_call_fail(&call, "words are missing");
}
