/* What must hold, judged by what is: DNS as it stands on the servers, tables and files on the disk, octets that leave the process. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/message.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "sim.h"

void sim_trace(struct sim *sim, const char *format, ...) {
  va_list arguments;
  char text[1024];
  const int64_t since = (sim_loop_now(sim->clock) - SIM_START) / 1000;
  const int used = snprintf(text, sizeof text, "%3lldd %02lld:%02lld:%02lld  ", (long long)since / 86400, (long long)since / 3600 % 24,
                            (long long)since / 60 % 60, (long long)since % 60);
  va_start(arguments, format);
  vsnprintf(text + used, sizeof text - (size_t)used, format, arguments);
  va_end(arguments);
  for (const char *c = text; *c; c++) {
    /* The folder's name is another one in each life. */
    if (sim->root[0] && text_starts(c, sim->root)) c += strlen(sim->root);
    sim->result->digest = (sim->result->digest ^ (uint8_t)*c) * UINT64_C(1099511628211);
    if (!*c) break;
  }
  if (sim->options.trace) fprintf(sim->options.trace, "%s\n", text);
}

void sim_violate(struct sim *sim, const char *invariant, const char *format, ...) {
  va_list arguments;
  char text[900];
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  sim_trace(sim, "%s violated: %s", invariant, text);
  if (!sim->result->failed) {
    const int64_t since = (sim_loop_now(sim->clock) - SIM_START) / 1000;
    snprintf(sim->result->violation, sizeof sim->result->violation, "%s violated on day %lld at %02lld:%02lld:%02lld: %s", invariant, (long long)since / 86400,
             (long long)since / 3600 % 24, (long long)since / 60 % 60, (long long)since % 60, text);
  }
  sim->result->failed = sim->over = true;
  sim_loop_interrupt(sim->clock);
  if (sim->engine) loop_stop(sim->loop);
}

/* ---- I3 and I4 in DNS ---- */

static void judge_name(struct sim *sim, const struct sim_record *record) {
  if (record->flags & (SIM_RECORD_FOREIGN | SIM_RECORD_TAMPERED)) return; /* not what we wrote */
  for (size_t i = 0; i < sim->name_count; i++) {
    struct sim_name *name = &sim->names[i];
    if (!text_equal(name->name, record->name)) continue;
    const bool revoked = text_starts(record->text, "v=DKIM1; k=ed25519; p=") && strlen(record->text) == strlen("v=DKIM1; k=ed25519; p=");
    if (!revoked && !text_equal(name->first, record->text)) sim_violate(sim, "I3", "%s gets a second key", record->name);
    return;
  }
  if (sim->name_count == SIM_NAMES_MAX) abort();
  sim->names[sim->name_count++] = (struct sim_name){.name = record->name, .first = record->text, .ours = true};
  sim_trace(sim, "%s is published", record->name);
}

void sim_oracle_update(struct sim *sim, struct sim_zone *zone, const struct sim_content *before, const struct sim_content *after) {
  (void)zone;
  for (size_t i = 0; i < before->count; i++) {
    const struct sim_record *old = &before->records[i];
    bool found = false;
    for (size_t j = 0; j < after->count; j++)
      found |= text_equal(after->records[j].name, old->name) && text_equal(after->records[j].text, old->text);
    if (old->flags & SIM_RECORD_FOREIGN && !(old->flags & SIM_RECORD_TORN) && !found) sim_violate(sim, "I4", "the record of others at %s is gone", old->name);
    const struct sim_by_hand *by_hand = found ? NULL : sim_by_hand_find(sim, old->name);
    if (by_hand && !by_hand->taken_over && !(old->flags & SIM_RECORD_TORN)) sim_violate(sim, "I4", "%s, which was made by hand and not imported, is gone", old->name);
    if (old->flags & SIM_RECORD_OURS && !found) sim_trace(sim, "%s loses %s", old->name, text_equal(strstr(old->text, "p="), "p=") ? "its revoked record" : "its key");
  }
  for (size_t i = 0; i < after->count; i++) {
    const struct sim_record *new = &after->records[i];
    if (!(new->flags & SIM_RECORD_OURS)) continue;
    judge_name(sim, new);
    for (size_t j = 0; j < after->count; j++) {
      const struct sim_record *other = &after->records[j];
      if (j != i && text_equal(other->name, new->name) && other->type == DNS_TYPE_TXT &&
          !((other->flags | new->flags) & (SIM_RECORD_TORN | SIM_RECORD_TAMPERED | SIM_RECORD_RISEN)))
        sim_violate(sim, "I3", "%s has two TXT records", new->name);
    }
  }
}

/* ---- I5 ---- */

void sim_oracle_key_made(struct sim *sim, const char *path) {
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error;
  if (file_read(path, KEYPAIR_FILE_MAX, &text, &size, NULL, &error)) return;
  sim->secrets = reallocarray(sim->secrets, sim->secret_count + 1, sizeof *sim->secrets);
  if (!sim->secrets) abort();
  struct sim_secret *secret = &sim->secrets[sim->secret_count];
  uint8_t octets[64];
  const char *body = strchr(text, '\n');
  /* PKCS#8 of Ed25519: 48 octets, one line of base64; the last 32 octets are the seed, and so are the last 43 letters, nearly. */
  if (!body || strcspn(body + 1, "\n") != 64 || EVP_DecodeBlock(octets, (const uint8_t *)body + 1, 64) != 48) return;
  /* The same path may get another key, where the first one was lost with the power. */
  for (size_t i = 0; i < sim->secret_count; i++)
    if (memcmp(sim->secrets[i].seed, octets + 16, 32) == 0) return;
  memcpy(secret->seed, octets + 16, 32);
  snprintf(secret->text, sizeof secret->text, "%.42s", body + 1 + 22);
  text_copy(secret->path, sizeof secret->path, path);
  sim->secret_count++;
}

void sim_oracle_octets(struct sim *sim, const char *where, const void *octets, size_t size) {
  for (size_t i = 0; size > 0 && i < sim->secret_count; i++) {
    const struct sim_secret *secret = &sim->secrets[i];
    if (memmem(octets, size, secret->seed, sizeof secret->seed) || memmem(octets, size, secret->text, strlen(secret->text)))
      sim_violate(sim, "I5", "%s holds the private key %s", where, secret->path);
  }
}

/* What the world did to a record is an excuse for mail that was signed with it, not for a switch to it: the look of the same step must have seen that. It is the
 * operation's time old at most, and over a name server of two minds it may have seen the other one. */
void sim_oracle_signature(struct sim *sim, const char *owner, const char *public_key) {
  const int64_t now = sim_loop_now(sim->clock), since = sim_zone_wrong_since(sim, owner, public_key);
  bool two_minds = false;
  for (size_t i = 0; i < sim->name_count; i++) {
    struct sim_name *name = &sim->names[i];
    if (!text_equal(name->name, owner) || name->has_signed) continue;
    name->has_signed = true;
    if (sim_by_hand_find(sim, owner)) continue; /* it was not dkimroll that switched */
    for (size_t s = 0; s < sim->server_count; s++) two_minds |= sim->servers[s].contradicts_until + ENGINE_SIGN_SECONDS * SIM_SECOND > now;
    if (!two_minds && since < now - (ENGINE_SIGN_SECONDS + 60) * SIM_SECOND)
      sim_violate(sim, "I2", "the first mail is signed with the key of %s, whose record is not on every server since %lld s", owner, (long long)(now - since) / 1000);
  }
}

/* ---- effort ---- */

static void count_effort(struct sim *sim, struct sim_tally *tally, uint64_t *busiest, uint64_t most, const char *what) {
  const int64_t day = sim_loop_now(sim->clock) / SIM_DAY;
  if (day != tally->day) tally->today = 0;
  tally->day = day;
  if (++tally->today > *busiest) *busiest = tally->today;
  if (tally->today > most) sim_violate(sim, "effort", "%s %llu in one day", what, (unsigned long long)tally->today);
}

void sim_oracle_effort(struct sim *sim) {
  count_effort(sim, &sim->jobs, &sim->result->counts.busiest, SIM_JOBS_A_DAY * sim->domain_count * sim->signer_count, "jobs of the keeper:");
}

/* ---- events ---- */

void sim_oracle_event(struct sim *sim, const struct event *event) {
  sim_trace(sim, "event: %s %s%s%s%s%s%s: %s", event->domain[0] ? event->domain : "host", event->selector ? event->selector : "", event->selector ? " " : "",
            event->kind, event->from ? " " : "", event->from ? event->to : "", "", event->reason ? event->reason : "");
  sim_emergency_event(sim, event);
  count_effort(sim, &sim->events, &sim->result->counts.loudest, SIM_EVENTS_A_DAY * sim->domain_count, "events:");
  /* What a run did that was cut off, and where a disk or a worker failed half-way, nobody can tell from an edit by hand. */
  const struct sim_counts *counts = &sim->result->counts;
  if (text_equal(event->kind, "tables") && !sim->tables_edited && !counts->crashes && !sim_fault_count(sim, "power-cut") && !sim_fault_count(sim, "keeper-") && !sim_fault_count(sim, "disk-"))
    sim_violate(sim, "false alarm", "nobody changed the tables: %s", event->reason);
  if (event->reason) sim_oracle_octets(sim, "an event", event->reason, strlen(event->reason));
  if (event->reason && strstr(event->reason, "defect of dkimroll")) sim_violate(sim, "defect", "%s: %s", event->domain, event->reason);
}

void sim_oracle_store(struct sim *sim) {
  for (const struct sim_disk_file *file = sim->disk.files; file; file = file->next)
    sim_oracle_octets(sim, "the store's file", file->present.octets, (size_t)file->present.size);
}

/* ---- I4 on the disk ---- */

static bool table_names(struct sim *sim, size_t signer, const char *path, bool *ret_whole) {
  char name[32], place[128];
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error;
  snprintf(name, sizeof name, "s%zu/KeyTable", signer + 1);
  if (file_read(sim_host_path(sim, name, place, sizeof place), 1 << 20, &text, &size, NULL, &error)) return false;
  *ret_whole = strstr(text, "other._domainkey.other.test other.test:other:/nowhere/other.private\n") != NULL;
  for (const char *at = text; (at = strstr(at, path)); at++)
    if (at[strlen(path)] == '\0' || strchr(" \t\n#", at[strlen(path)])) return true;
  return false;
}

void sim_oracle_key_gone(struct sim *sim, const char *path) {
  for (size_t s = 0; s < sim->signer_count; s++) {
    bool whole = false;
    if (table_names(sim, s, path, &whole)) sim_violate(sim, "I4", "%s is destroyed, and the KeyTable of s%zu names it", path, s + 1);
    if (!whole) sim_violate(sim, "I4", "the KeyTable of s%zu has lost the line of others", s + 1);
  }
}

/* ---- liveness ---- */

struct examination {
  struct sim *sim;
  char *why;
  size_t size;
  size_t lineages;
};

static int examine(void *context, const void *row) {
  struct examination *e = context;
  struct sim *sim = e->sim;
  const struct lineage *lineage = row;
  const size_t domain = (size_t)(lineage->domain[0] - 'a');
  const struct key *active = NULL;
  const int64_t now = sim_loop_wall(sim->clock);
  e->lineages++;
  if (!lineage->managed) return 0;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->state == KEY_ACTIVE) active = key;
    if (key->compromised_at != TIME_UNSET && key->state < KEY_REVOKED && !lineage->held) {
      snprintf(e->why, e->size, "%s: %s is compromised and %s: %s", lineage->domain, key->selector, key_state_name(key->state), lineage->failure ? lineage->failure : "no failure");
      return 1;
    }
    if (key->state < KEY_RETIRED) continue;
    /* Long after its time an old key is still there. */
    int64_t end = key->revoked_at != TIME_UNSET ? time_add(key->revoked_at, lineage->rules->tombstone) : key->revoke_at;
    end = schedule_next(&lineage->rules->schedule, end, true);
    if (!lineage->held && time_add(end, 4 * 86400) < now) {
      snprintf(e->why, e->size, "%s: %s is %s long after its time: %s", lineage->domain, key->selector, key_state_name(key->state), lineage->failure ? lineage->failure : "no failure");
      return 1;
    }
  }
  if (!active) {
    snprintf(e->why, e->size, "%s has no active key: %s", lineage->domain, lineage->failure ? lineage->failure : "no failure");
    return 1;
  }
  char owner[DNS_NAME_TEXT_SIZE];
  if (!sim_zone_served(sim, sim_owner_name(sim, active->selector, lineage->domain, owner), active->record)) {
    snprintf(e->why, e->size, "%s: not every server serves the record of %s", lineage->domain, active->selector);
    return 1;
  }
  for (size_t s = 0; s < sim->signer_count; s++) {
    struct sim_signature signature = {0};
    if (!(sim->domain_signers[domain] >> s & 1)) continue;
    const bool is_signed = sim_filter_sign(sim, s, lineage->domain, &signature) == SIM_MAIL_SIGNED;
    /* A connection from before the switch signs with the old key, for as long as a drain. */
    const bool drains = now < time_add(active->active_at, lineage->rules->drain);
    if (!is_signed || (!drains && !text_equal(signature.selector, active->selector))) {
      snprintf(e->why, e->size, "%s: s%zu signs with %s and not with %s", lineage->domain, s + 1, signature.selector[0] ? signature.selector : "nothing", active->selector);
      return 1;
    }
  }
  if (lineage->failures > 0) {
    snprintf(e->why, e->size, "%s failed: %s", lineage->domain, lineage->failure);
    return 1;
  }
  /* A freeze that is over lets the successor be made, which takes a day and a half at most, and then the window must open. */
  const struct schedule *schedule = &lineage->rules->schedule;
  const int64_t life_end = time_add(active->active_at, lineage->rules->rotate_every), thawed = schedule_next(schedule, life_end, false);
  const int64_t turn = thawed == life_end ? schedule_next(schedule, life_end, true) : schedule_next(schedule, time_add(thawed, 36 * 3600), true);
  if (lineage->rules->rotate_every != TIME_NEVER && time_add(turn, 4 * 86400) < now && !lineage->held) {
    snprintf(e->why, e->size, "%s: %s has no successor long after its life", lineage->domain, active->selector);
    return 1;
  }
  return 0;
}

const char *sim_oracle_ill(struct sim *sim, const char *domain, char *why, size_t size) {
  struct examination e = {.sim = sim, .why = why, .size = size};
  struct error error = {0};
  struct store *store = sim_host_store(sim);
  const struct store_filter filter = {.domain = domain};
  if (!store) return "there is no store";
  const int result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, examine, &e, &error);
  if (result < 0) snprintf(why, size, "the store cannot be read: %s", error.message);
  const bool unknown = e.lineages < (domain ? 1 : sim->domain_count);
  if (!result && unknown) snprintf(why, size, "%s is not known", domain ? domain : "one of the domains");
  return result || unknown ? why : NULL;
}
