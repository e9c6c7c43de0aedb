#include <stdio.h>

#include "dkimroll/status.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"

/* Durations of one line, each with a buffer of its own. */
struct durations {
  char texts[5][DURATION_TEXT_SIZE];
};

static struct status_moment *add_moment(struct status_moment *moments, size_t *count, const char *name,
                                        const char *label, int64_t at) {
  struct status_moment *moment = &moments[(*count)++];
  *moment = (struct status_moment){.name = name, .label = label, .at = at};
  return moment;
}

static void explain_ready(const struct key *key, const struct policy_rules *rules, struct status_moment *moment) {
  struct durations is = {0};
  snprintf(moment->made_of, sizeof moment->made_of, "right on every server + max(TTLneg %s, TTLold %s) + safety %s",
           duration_format(time_max(0, key->ttl_negative), is.texts[0]),
           duration_format(time_max(0, key->ttl_old), is.texts[1]),
           duration_format(rules->publish_safety, is.texts[2]));
}

static void explain_revoke(const struct policy_rules *rules, struct status_moment *moment) {
  struct durations is = {0};
  snprintf(moment->made_of, sizeof moment->made_of, "F2 + queue %s + back-off %s + late verification %s + safety %s",
           duration_format(rules->queue_lifetime, is.texts[0]), duration_format(rules->queue_backoff, is.texts[1]),
           duration_format(rules->verify_window, is.texts[2]), duration_format(rules->retire_safety, is.texts[3]));
}

static void add_retired(const struct key *key, const struct policy_rules *rules, struct status_moment *moments,
                        size_t *count) {
  char text[DURATION_TEXT_SIZE];
  struct status_moment *moment =
      add_moment(moments, count, "last_signature", "F2 last signature", timing_last_signature(key, rules));
  snprintf(moment->made_of, sizeof moment->made_of, "its successor proved + drain %s",
           duration_format(rules->drain, text));
  moment = rules->tombstone > 0 ? add_moment(moments, count, "revoke", "F3 revoke", timing_revoke(key, rules))
                                : add_moment(moments, count, "delete", "F3 delete", timing_revoke(key, rules));
  explain_revoke(rules, moment);
}

static void add_revoked(const struct key *key, const struct policy_rules *rules, struct status_moment *moments,
                        size_t *count) {
  struct durations is = {0};
  struct status_moment *moment = add_moment(moments, count, "dead", "F4 dead everywhere", timing_dead(key));
  snprintf(moment->made_of, sizeof moment->made_of, "revoked + propagation %s + TTL %s",
           duration_format(time_max(0, key->propagation), is.texts[0]), duration_format(key->ttl, is.texts[1]));
  moment = add_moment(moments, count, "delete", "F5 delete", timing_remove(key, rules));
  snprintf(moment->made_of, sizeof moment->made_of, "revoked + tombstone %s",
           duration_format(rules->tombstone, is.texts[2]));
}

size_t status_moments(const struct lineage *lineage, const struct key *key,
                      struct status_moment moments[STATUS_MOMENTS_MAX]) {
  const struct policy_rules *rules = lineage->rules;
  size_t count = 0;
  switch (key->state) {
  case KEY_PUBLISHED:
  case KEY_READY:
    explain_ready(key, rules, add_moment(moments, &count, "ready", "F1 ready", timing_ready(key, rules)));
    break;
  case KEY_ACTIVE:
    add_moment(moments, &count, "successor_made", "successor made", timing_generate(lineage, key));
    add_moment(moments, &count, "successor_signs", "successor signs", timing_turn(lineage, key));
    break;
  case KEY_RETIRED: add_retired(key, rules, moments, &count); break;
  case KEY_REVOKED: add_revoked(key, rules, moments, &count); break;
  case KEY_RESERVED:
  case KEY_GENERATED:
  case KEY_REMOVED: break;
  }
  return count;
}

static void print_step(FILE *out, const struct lineage *lineage, size_t key, const struct plan_clock *clock) {
  struct status_step step;
  char moment[TIME_TEXT_SIZE];
  status_next_step(lineage, key, clock, &step);
  fprintf(out, "    next        %s", step.action);
  if (step.at <= clock->now)
    fputs(", with the next run", out);
  else if (step.at != TIME_NEVER)
    fprintf(out, ", %s", time_format(step.at, moment));
  fputc('\n', out);
  for (size_t i = 0; i < step.reason_count; i++) fprintf(out, "    waits for   %s\n", step.reasons[i].text);
}

static void print_servers(FILE *out, const struct key *key) {
  char since[TIME_TEXT_SIZE], seen_at[TIME_TEXT_SIZE], server[STATUS_SERVER_MAX];
  const bool gone = key->deleted_at != TIME_UNSET; /* then right means without the record */
  for (size_t i = 0; i < key->sighting_count; i++) {
    const struct sighting *seen = &key->sightings[i];
    fprintf(out, "    server      %s: ", status_server_name(seen->host, seen->address, server));
    if (seen->no_route)
      fprintf(out, "no route from here%s",
              timing_sighting_counts(key, i) ? ", but it is right at another address" : "");
    else if (seen->right)
      fprintf(out, "%s since %s, seen %u time%s", gone ? "without it" : "right", time_format(seen->right_since, since),
              seen->count, seen->count == 1 ? "" : "s");
    else
      fprintf(out, "%s: %s", gone ? "STILL THERE" : "WRONG", seen->answer);
    fprintf(out, "; asked %s\n", time_format(seen->seen_at, seen_at));
  }
}

static void print_placements(FILE *out, const struct key *key) {
  char moment[TIME_TEXT_SIZE];
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    fprintf(out, "    signer      %s: %s", placement->signer->name, placement->key_path ? placement->key_path : "in the KeyTable itself");
    /* Of an adopted key it also says that dkimroll never destroys it. */
    if (placement->destroyed && !key_is_adopted(key))
      fputs(", private key gone", out);
    else if (placement->drained_at != TIME_UNSET)
      fprintf(out, ", out of its tables since %s", time_format(placement->drained_at, moment));
    else if (placement->proved_at != TIME_UNSET)
      fprintf(out, ", %s %s", key->state == KEY_ACTIVE ? "signs, proved" : "proved",
              time_format(placement->proved_at, moment));
    else
      fputs(placement->file_made ? ", in waiting" : ", not made yet", out);
    if (placement->failure) fprintf(out, "; FAILED: %s", placement->failure);
    fputc('\n', out);
  }
}

static void print_record(FILE *out, const struct key *key) {
  char text[DURATION_TEXT_SIZE];
  fprintf(out, "    name        %s", key->owner_name);
  if (key->owner[0] && !text_equal_nocase(key->owner, key->owner_name)) fprintf(out, " (an alias of %s)", key->owner);
  fputc('\n', out);
  if (key->zone[0])
    fprintf(out, "    zone        %s%s%s\n", key->zone, key->primary_server[0] ? ", primary " : "",
            key->primary_server);
  if (key->record) fprintf(out, "    record      %s\n", key->record);
  if (key->published_at != TIME_UNSET) fprintf(out, "    TTL         %s\n", duration_format(key->ttl, text));
}

static void print_times(FILE *out, const struct lineage *lineage, const struct key *key) {
  static const char *const labels[] = {"published", "right",   "ready",   "active",
                                       "retired",   "revoked", "deleted", "gone"};
  const int64_t facts[] = {key->published_at, key->right_at,   key->ready_at,   key->active_at,
                           key->retired_at,   key->revoked_at, key->deleted_at, key->absent_at};
  struct status_moment moments[STATUS_MOMENTS_MAX];
  char moment[TIME_TEXT_SIZE];
  const char *separator = "    was         ";
  for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
    if (facts[i] == TIME_UNSET) continue;
    fprintf(out, "%s%s %s", separator, labels[i], time_format(facts[i], moment));
    separator = ", ";
  }
  if (separator[0] == ',') fputc('\n', out);
  const size_t count = status_moments(lineage, key, moments);
  for (size_t i = 0; i < count; i++) {
    fprintf(out, "    will be     %s %s", moments[i].label,
            moments[i].at == TIME_NEVER ? "not foreseeable" : time_format(moments[i].at, moment));
    if (moments[i].made_of[0]) fprintf(out, " (%s)", moments[i].made_of);
    fputc('\n', out);
  }
}

static void print_key(FILE *out, const struct lineage *lineage, size_t index, const struct plan_clock *clock) {
  const struct key *key = &lineage->keys[index];
  char moment[TIME_TEXT_SIZE];
  fprintf(out, "  %s: %s since %s", key->selector, status_state_name(lineage, key), time_format(key->state_since, moment));
  if (key->algorithm == KEY_ALGORITHM_RSA)
    fprintf(out, ", RSA %u\n", key->bits);
  else
    fputs(", Ed25519\n", out);
  print_step(out, lineage, index, clock);
  print_record(out, key);
  print_times(out, lineage, key);
  print_servers(out, key);
  print_placements(out, key);
}

void status_print_detail(FILE *out, const struct lineage *lineage, const struct plan_clock *clock) {
  char text[DURATION_TEXT_SIZE];
  fprintf(out, "%s, key %s: policy %s, publisher %s, signers", lineage->domain, lineage->slot, lineage->rules->name,
          lineage->publisher->name);
  for (size_t i = 0; i < lineage->signer_count; i++) fprintf(out, " %s", lineage->signers[i]->name);
  if (lineage->rules->rotate_every == TIME_NEVER)
    fputs("; a new key on demand only\n", out);
  else
    fprintf(out, "; a new key every %s\n", duration_format(timing_life(lineage), text));
  if (lineage->rotate_requested) fputs("  somebody asked for a new key\n", out);
  for (size_t i = 0; i < lineage->key_count; i++) print_key(out, lineage, i, clock);
  if (status_row_count(lineage) > lineage->key_count) {
    fputs("  no key that signs, and none on its way\n", out);
    print_step(out, lineage, lineage->key_count, clock);
  }
}
