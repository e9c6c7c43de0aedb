#include <stdio.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/columns.h"
#include "dkimroll/revoke.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"

/* ---- what will happen ---- */

/* When a key that is not ready may take over at the earliest: F1 of the one that has come furthest, or of one that is made now. */
static int64_t foresee_switch(const struct lineage *lineage, const struct key *active, bool whole_host, int64_t now) {
  int64_t opens = time_add(now, timing_publication_interval(active, lineage->rules));
  for (size_t i = 0; i < lineage->key_count && !whole_host; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->state != KEY_PUBLISHED || key_is_given_up(key)) continue;
    const int64_t ready = timing_ready(key, lineage->rules);
    if (ready != TIME_NEVER) opens = time_min(opens, time_max(ready, now));
  }
  return opens;
}

/* A hold of activation alone holds back only what another key has to take over for. */
bool revoke_is_held(const struct lineage *lineage, const struct key *key, const struct cli_arguments *arguments, int64_t now) {
  const bool standby = !arguments->host_compromised && lineage_standby_key(lineage);
  if (!lineage->held || now >= lineage->hold_until) return false;
  return lineage->hold_scope != HOLD_ACTIVATION || (key->state == KEY_ACTIVE && (standby || !arguments->now));
}

static void foretell_active(const struct lineage *lineage, const struct key *key, const struct cli_arguments *arguments, int64_t now,
                            char what[REVOKE_TEXT_MAX]) {
  const struct key *standby = arguments->host_compromised ? NULL : lineage_standby_key(lineage);
  const int64_t caches = time_max(0, key->propagation) + (int64_t)key->ttl;
  const int64_t opens = foresee_switch(lineage, key, arguments->host_compromised, now);
  char moment[TIME_TEXT_SIZE], end[TIME_TEXT_SIZE];
  if (standby)
    snprintf(what, REVOKE_TEXT_MAX, "%s takes over at once, then p=; caches forget the old key by about %s", standby->selector,
             time_format(time_add(now, caches), end));
  else if (arguments->now && lineage->held && now < lineage->hold_until)
    snprintf(what, REVOKE_TEXT_MAX, "p= at once; mail goes out UNSIGNED until `dkimroll release %.100s` lets a new key sign; caches forget the old key by about %s",
             lineage->domain, time_format(time_add(now, caches), end));
  else if (arguments->now)
    snprintf(what, REVOKE_TEXT_MAX, "p= at once; mail goes out UNSIGNED until a new key may sign, at about %s; caches forget the old key by about %s",
             time_format(opens, moment), time_format(time_add(now, caches), end));
  else
    snprintf(what, REVOKE_TEXT_MAX, "no key is ready: a new one takes over at about %s, then p=; until then it signs on; caches forget it by about %s",
             time_format(opens, moment), time_format(time_add(opens, caches), end));
}

void revoke_foretell(const struct lineage *lineage, size_t index, const struct cli_arguments *arguments, int64_t now, char what[REVOKE_TEXT_MAX]) {
  const struct key *key = &lineage->keys[index];
  const struct compromise wish = {.selector = key->selector, .now = arguments->now};
  if (key->state >= KEY_REVOKED) {
    snprintf(what, REVOKE_TEXT_MAX, "nothing: it is revoked already");
  } else if (!key_is_meant(key, &wish)) {
    snprintf(what, REVOKE_TEXT_MAX, "it was asked for before; what is left is tried at once");
  } else if (revoke_is_held(lineage, key, arguments, now)) {
    snprintf(what, REVOKE_TEXT_MAX, "HELD%s%s: it waits for `dkimroll release %.100s`", lineage->hold_reason ? " for " : "",
             lineage->hold_reason ? lineage->hold_reason : "", lineage->domain);
  } else if (key->state == KEY_ACTIVE) {
    foretell_active(lineage, key, arguments, now, what);
  } else if (key->state == KEY_RETIRED) {
    snprintf(what, REVOKE_TEXT_MAX, "p= at once");
  } else if (key->state >= KEY_PUBLISHED) {
    snprintf(what, REVOKE_TEXT_MAX, "p= at once; it never signs");
  } else {
    snprintf(what, REVOKE_TEXT_MAX, "destroyed; it was not published yet");
  }
}

static void row_of(const struct revoke_target *target, struct columns_row *row) {
  *row = (struct columns_row){.cells = {target->domain, target->selector, target->state, target->what}};
}

/* Nobody may think that they were meant. */
static void print_left_out(const struct revoke *revoke) {
  FILE *out = revoke->session->cli->out;
  if (revoke->left_out == 0) return;
  fprintf(out, "LEFT OUT, because not in the policy any more, though a key of it signs: ");
  for (size_t i = 0; i < revoke->left_out && i < REVOKE_CANDIDATES_MAX; i++) fprintf(out, "%s%s", i ? ", " : "", revoke->left_out_names[i]);
  if (revoke->left_out > REVOKE_CANDIDATES_MAX) fprintf(out, " and %zu more", revoke->left_out - REVOKE_CANDIDATES_MAX);
  fputs(". Put it back into the policy, and revoke again.\n", out);
}

static void print_common(const struct revoke *revoke) {
  FILE *out = revoke->session->cli->out;
  int64_t first = TIME_NEVER, drain = 0;
  char since[TIME_TEXT_SIZE], length[DURATION_TEXT_SIZE];
  for (size_t i = 0; i < revoke->count; i++) {
    const struct revoke_target *target = &revoke->targets[i];
    if (target->known) continue;
    first = time_min(first, target->signed_since);
    if (target->lingers) drain = time_max(drain, target->drain);
  }
  if (first != TIME_NEVER)
    fprintf(out, "Mail that these keys have signed since %s and that no receiver has verified yet will fail.\n", time_format(first, since));
  print_left_out(revoke);
  if (drain > 0)
    fprintf(out, "A signer cannot be restarted by the policy (neither restart: nor a unit in reload:). Restart it by hand after the switch: connections that stay open\n"
                 "sign with the old key for up to %s, and that mail fails.\n", duration_format(drain, length));
}

int revoke_print_plan(const struct revoke *revoke, struct error *error) {
  static const char *const names[] = {"DOMAIN", "SELECTOR", "STATE", "WHAT HAPPENS"};
  struct columns *columns = NULL;
  struct columns_row row;
  int result = columns_new(revoke->session->cli->out, names, ARRAY_SIZE(names), &columns, error);
  for (size_t i = 0; i < revoke->count && !result; i++) {
    row_of(&revoke->targets[i], &row);
    columns_measure(columns, &row);
  }
  for (size_t i = 0; i < revoke->count && !result; i++) {
    row_of(&revoke->targets[i], &row);
    result = columns_add(columns, &row, error);
  }
  if (!result) result = columns_end(columns, error);
  columns_free(columns);
  if (!result) print_common(revoke);
  fflush(revoke->session->cli->out);
  return result;
}

/* ---- what became of it ---- */

struct telling {
  const struct revoke *revoke;
  const struct revoke_target *target;
  bool again; /* the domain was told of already */
  bool found, open;
};

static const struct sighting *find_wrong(const struct key *key) {
  for (size_t i = 0; i < key->sighting_count; i++)
    if (!timing_sighting_counts(key, i)) return &key->sightings[i];
  return NULL;
}

static void tell_revoked(FILE *out, const struct lineage *lineage, const struct key *key) {
  const struct sighting *wrong = find_wrong(key);
  char moment[TIME_TEXT_SIZE], server[STATUS_SERVER_MAX];
  fprintf(out, "%s %s is revoked since %s", lineage->domain, key->selector, time_format(key->revoked_at, moment));
  if (key->right_at != TIME_UNSET)
    fprintf(out, ", and every server says so: exposure ends %s\n", time_format(timing_dead(key), moment));
  else if (wrong)
    fprintf(out, ", but %s does not say so (%s): exposure ends %s only if that ends at once\n", status_server_name(wrong->host, wrong->address, server), wrong->answer,
            time_format(timing_dead(key), moment));
  else
    fprintf(out, ": exposure ends about %s\n", time_format(timing_dead(key), moment));
}

/* What holds it back, and what a person can do about it. */
static void tell_open(FILE *out, const struct lineage *lineage, size_t index, const struct telling *telling) {
  const struct key *key = &lineage->keys[index];
  if (telling->target->held) {
    fprintf(out, "%s %s is NOT revoked yet, it is %s: held%s%s; `dkimroll release %s` lets it go on\n", lineage->domain, key->selector, key_state_name(key->state),
            lineage->hold_reason ? " for " : "", lineage->hold_reason ? lineage->hold_reason : "", lineage->domain);
    return;
  }
  struct clock_reading now;
  struct status_step step;
  char moment[TIME_TEXT_SIZE];
  clock_read(&now);
  status_next_step(lineage, index, &(struct plan_clock){.now = now.wall, .attested = true, .skip_watch = true}, &step);
  const char *const reason = status_step_reason(&step);
  fprintf(out, "%s %s is NOT revoked yet, it is %s; next: %s", lineage->domain, key->selector, key_state_name(key->state), step.action);
  if (step.at != TIME_NEVER) fprintf(out, " at %s", time_format(step.at, moment));
  fprintf(out, "%s%s\n", reason[0] ? ": " : "", reason);
  if (lineage->failure) fprintf(out, "%s failed: %s\n", lineage->domain, lineage->failure);
  if (key->state == KEY_ACTIVE && !key->revoke_now)
    fprintf(out, "%s: if mail that goes out unsigned is better than that, `dkimroll revoke %s --now` waits for no other key\n", lineage->domain, lineage->domain);
}

/* The loss that was asked for. */
static void tell_unsigned(FILE *out, const struct lineage *lineage, int64_t now) {
  const struct key *ended = lineage_ended_key(lineage);
  char replacement[256];
  if (!ended) return;
  status_describe_replacement(lineage, ended, now, replacement, sizeof replacement);
  fprintf(out, "%s: mail goes out UNSIGNED; %s\n", lineage->domain, replacement);
}

static int tell(void *context, const void *row) {
  struct telling *telling = context;
  const struct lineage *lineage = row;
  FILE *out = telling->revoke->session->cli->out;
  char moment[TIME_TEXT_SIZE];
  if (!telling->again) tell_unsigned(out, lineage, telling->revoke->now);
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (!telling->again && key->state == KEY_ACTIVE && key->active_at >= telling->revoke->now)
      fprintf(out, "%s %s signs, proved %s\n", lineage->domain, key->selector, time_format(key->active_at, moment));
    if (!text_equal_nocase(key->selector, telling->target->selector)) continue;
    telling->found = true;
    if (key->state >= KEY_REVOKED)
      tell_revoked(out, lineage, key);
    else
      tell_open(out, lineage, i, telling);
    telling->open = key->state < KEY_REVOKED;
    if (key->lingers_until > telling->revoke->now)
      fprintf(out, "%s: connections that were open may sign with %s until %s; restart the signer to end them\n", lineage->domain, key->selector,
              time_format(key->lingers_until, moment));
  }
  return 0;
}

int revoke_print_result(const struct revoke *revoke, size_t *ret_open, struct error *error) {
  struct store *store = revoke->session->store;
  int result = 0;
  fputc('\n', revoke->session->cli->out);
  *ret_open = 0;
  for (size_t i = 0; i < revoke->count && !result; i++) {
    const bool again = i > 0 && text_equal(revoke->targets[i - 1].domain, revoke->targets[i].domain);
    struct telling telling = {.revoke = revoke, .target = &revoke->targets[i], .again = again};
    const struct store_filter filter = {.domain = revoke->targets[i].domain};
    result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, tell, &telling, error);
    *ret_open += telling.open;
    if (!telling.found && !result)
      fprintf(revoke->session->cli->out, "%s %s is gone: no server has its record, and its private key is destroyed\n", revoke->targets[i].domain, revoke->targets[i].selector);
  }
  print_left_out(revoke);
  return result;
}
