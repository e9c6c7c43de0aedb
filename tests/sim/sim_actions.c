/* What happens in the world at a moment: faults, operators, clocks, crashes, and the expectations of scenarios. One row for each; README.md lists them for people. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/message.h"
#include "dkimroll/text.h"
#include "sim.h"

struct call {
  struct sim *sim;
  char *words[SIM_WORDS_MAX];
  size_t count;
  size_t fault; /* of sim_fault_kinds; SIZE_MAX: none */
  char *why;
  size_t size;
};

const char *const sim_fault_kinds[] = {
    "outage",       "refusal",  "servfail",  "truncation", "contradiction", "lost-request", "lost-reply", "lag",    "backup",   "primary-backup",
    "update-refused", "primary-clock", "record-deleted", "record-edited", "record-beside", "name-servers", "zone-ttl", "policy", "domain", "hold",
    "rotate",       "signer-down", "signer-refuses", "signer-hangs", "signer-cuts", "signer-loses", "reload-fails", "reload-lost", "tables", "clock-jump", "unsynchronised", "reboot", "crash", "power-cut", "keeper-fails",
    "keeper-hangs", "keeper-dies", "keeper-killed", "disk-full", "disk-write", "disk-sync", "revoke",
    "tool-fails", "tool-lies", "tool-hangs", "fragments-lost", "hold-activation", "forget", "tables-dropped",
    "signer-restart", "suspend", "away", "resolver", "receivers", "ipv6-route", "store-lost", "import", NULL};

static bool fail(struct call *call, const char *what) {
  snprintf(call->why, call->size, "%s", what);
  return false;
}

static bool take_domain(struct call *call, const char *word, size_t *ret_domain) {
  for (size_t i = 0; i < call->sim->domain_count; i++)
    if (text_equal(call->sim->zones[i].name, word)) {
      *ret_domain = i;
      return true;
    }
  return fail(call, "there is no such domain in this world (a.test, b.test, ...)");
}

static bool take_number(struct call *call, const char *word, const char *prefix, size_t limit, size_t *ret_index) {
  const size_t size = strlen(prefix);
  long long number = 0;
  char *end = NULL;
  number = strncmp(word, prefix, size) == 0 ? strtoll(word + size, &end, 10) : 0;
  if (number < 1 || (size_t)number > limit || !end || *end) return fail(call, "there is no such server or signer in this world");
  *ret_index = (size_t)number - 1;
  return true;
}

static bool take_duration(struct call *call, const char *word, int64_t *ret_milliseconds) {
  const bool negative = word[0] == '-';
  int64_t seconds = 0;
  if (!duration_parse(word + (negative || word[0] == '+'), &seconds)) return fail(call, "that is no duration");
  *ret_milliseconds = (negative ? -seconds : seconds) * 1000;
  return true;
}

static bool take_percent(struct call *call, const char *word, unsigned *ret_percent) {
  char *end = NULL;
  const long number = strtol(word, &end, 10);
  if (end == word || number < 0 || number > 100) return fail(call, "that is no percentage");
  *ret_percent = (unsigned)number;
  return true;
}

static int64_t now_of(const struct call *call) { return sim_loop_now(call->sim->clock); }

static void count_fault(struct call *call, const char *kind) {
  for (size_t i = 0; sim_fault_kinds[i]; i++)
    if (text_equal(sim_fault_kinds[i], kind)) call->sim->result->counts.faults[i]++;
}

uint64_t sim_fault_count(const struct sim *sim, const char *kind) {
  uint64_t count = 0;
  for (size_t i = 0; sim_fault_kinds[i]; i++)
    if (text_starts(sim_fault_kinds[i], kind)) count += sim->result->counts.faults[i];
  return count;
}

/* ---- name servers ---- */

static bool server_until(struct call *call, int64_t *until, const char *word, const char *kind) {
  int64_t duration = 0;
  if (!take_duration(call, word, &duration)) return false;
  *until = now_of(call) + duration;
  count_fault(call, kind);
  return true;
}

static bool do_server(struct call *call) {
  struct sim *sim = call->sim;
  size_t i = 0;
  if (call->count < 3 || !take_number(call, call->words[1], "ns", sim->server_count, &i)) return false;
  struct sim_server *server = &sim->servers[i];
  const char *what = call->words[2];
  const struct {
    const char *word, *kind;
    int64_t *until;
  } simple[] = {{"down", "outage", &server->down_until},
                {"refuses", "refusal", &server->refuses_until},
                {"servfail", "servfail", &server->servfail_until},
                {"truncates", "truncation", &server->truncates_until},
                {"contradicts", "contradiction", &server->contradicts_until}};
  for (size_t j = 0; j < ARRAY_SIZE(simple); j++)
    if (call->count == 4 && text_equal(what, simple[j].word)) return server_until(call, simple[j].until, call->words[3], simple[j].kind);
  if (call->count == 5 && text_equal(what, "loses-requests"))
    return take_percent(call, call->words[3], &server->loses_requests) && server_until(call, &server->loses_requests_until, call->words[4], "lost-request");
  if (call->count == 5 && text_equal(what, "loses-replies"))
    return take_percent(call, call->words[3], &server->loses_replies) && server_until(call, &server->loses_replies_until, call->words[4], "lost-reply");
  if (call->count == 5 && text_equal(what, "lags") && i > 0)
    return take_duration(call, call->words[3], &server->lag) && server_until(call, &server->lags_until, call->words[4], "lag");
  int64_t age = 0, duration = 0;
  if (call->count == 5 && text_equal(what, "forgets") && i > 0) {
    if (!take_duration(call, call->words[3], &age) || !take_duration(call, call->words[4], &duration)) return false;
    sim_server_forget(sim, i, age, duration);
    count_fault(call, "backup");
    return true;
  }
  const bool joins = text_equal(what, "joins");
  if (call->count == 3 && i > 0 && (joins || text_equal(what, "leaves"))) {
    for (size_t z = 0; z < sim->zone_count; z++) {
      const unsigned bits = sim_zone_at(&sim->zones[z], 0)->name_servers;
      sim_name_servers_set(sim, &sim->zones[z], joins ? bits | 1u << i : bits & ~(1u << i));
    }
    count_fault(call, "name-servers");
    return true;
  }
  return fail(call, "a server can: down, refuses, servfail, truncates, contradicts DURATION; loses-requests, loses-replies PERCENT DURATION; lags LAG DURATION; "
                    "forgets AGE DURATION; joins; leaves (the last four not ns1, the primary)");
}

static bool do_primary(struct call *call) {
  struct sim *sim = call->sim;
  int64_t offset = 0;
  if (call->count == 3 && text_equal(call->words[1], "forgets")) {
    if (!take_duration(call, call->words[2], &offset)) return false;
    sim_primary_forget(sim, offset);
    count_fault(call, "primary-backup");
    return true;
  }
  if (call->count == 3 && text_equal(call->words[1], "rejects")) return server_until(call, &sim->rejects_until, call->words[2], "update-refused");
  if (call->count == 4 && text_equal(call->words[1], "clock")) {
    if (!take_duration(call, call->words[2], &offset)) return false;
    sim->primary_clock_error = offset / 1000;
    return server_until(call, &sim->primary_clock_until, call->words[3], "primary-clock");
  }
  return fail(call, "the primary can: forgets AGE; rejects DURATION; clock OFFSET DURATION");
}

static bool has_role(const struct sim_record *record, const char *role, const char *signing, bool first) {
  if (text_equal(role, "signing")) return text_equal(record->name, signing);
  if (text_equal(role, "revoked")) return first && text_ends(record->text, "; p=");
  return first || text_equal(role, "newest");
}

/* The record that a role means: "signing", the first that is "revoked", or the "newest" or "oldest" of ours that the primary has. SIZE_MAX: none. */
static size_t find_record(struct sim *sim, size_t domain, const struct sim_content *content, const char *role) {
  char signing[DNS_NAME_TEXT_SIZE], suffix[DNS_NAME_TEXT_SIZE];
  size_t found = SIZE_MAX;
  for (size_t s = 0; s < sim->signer_count; s++) {
    const struct sim_mail_place *place = &sim->places[s][domain];
    if (!place->has_signed) continue;
    sim_owner_name(sim, place->selector, sim->zones[domain].name, signing);
    break;
  }
  sim_record_suffix(sim, domain, suffix);
  for (size_t i = 0; i < content->count; i++) {
    const struct sim_record *record = &content->records[i];
    if (!(record->flags & SIM_RECORD_OURS) || record->flags & SIM_RECORD_TORN || !text_ends(record->name, suffix)) continue;
    if (has_role(record, role, signing, found == SIZE_MAX)) found = i;
  }
  return found;
}

/* The resolvers that the policy names, for SOA and NS; what receivers ask is another matter. */
static bool do_resolver(struct call *call) {
  struct sim *sim = call->sim;
  size_t i = 0;
  if (call->count != 4 || !take_number(call, call->words[1], "r", SIM_RESOLVERS, &i)) return fail(call, "resolver r1|r2 down|servfail DURATION");
  if (text_equal(call->words[2], "down")) return server_until(call, &sim->resolvers[i].down_until, call->words[3], "resolver");
  if (text_equal(call->words[2], "servfail")) return server_until(call, &sim->resolvers[i].servfail_until, call->words[3], "resolver");
  return fail(call, "a resolver can: down, servfail DURATION");
}

/* Those of receivers: mail waits, and is verified when they answer again, or by whoever asks in the last moment. */
static bool do_receivers(struct call *call) {
  if (call->count != 3 || !text_equal(call->words[1], "defer")) return fail(call, "receivers defer DURATION");
  return server_until(call, &call->sim->receivers_defer_until, call->words[2], "receivers");
}

static bool do_ipv6(struct call *call) {
  if (call->count != 3 || !text_equal(call->words[1], "routed")) return fail(call, "ipv6 routed DURATION");
  return server_until(call, &call->sim->ipv6_routed_until, call->words[2], "ipv6-route");
}

static bool do_record(struct call *call) {
  struct sim *sim = call->sim;
  size_t domain = 0;
  if (call->count != 4 || !take_domain(call, call->words[1], &domain)) return fail(call, "record DOMAIN signing|revoked|newest|oldest deleted|edited|beside");
  struct sim_zone *zone = sim_record_zone(sim, domain);
  struct sim_content *content = sim_zone_edit(zone);
  const size_t i = find_record(sim, domain, content, call->words[2]);
  if (i == SIZE_MAX) {
    sim_zone_commit(sim, zone, content);
    return true; /* there is none yet: the operator finds nothing to break */
  }
  struct sim_record *record = &content->records[i];
  const char *const name = record->name;
  sim_trace(sim, "somebody does this to %s: %s", name, call->words[3]);
  if (text_equal(call->words[3], "deleted")) {
    record->flags |= SIM_RECORD_TORN;
    count_fault(call, "record-deleted");
  } else if (text_equal(call->words[3], "edited")) {
    record->text = "v=DKIM1; k=ed25519; p=bm90IG91cnM=";
    record->flags |= SIM_RECORD_TAMPERED;
    sim_dns_record_rdata(sim, record);
    count_fault(call, "record-edited");
  } else if (text_equal(call->words[3], "beside")) {
    record->flags |= SIM_RECORD_TAMPERED;
    sim_content_add(sim, content, name, DNS_TYPE_TXT, 3600, "v=DKIM1; k=rsa; p=YmVzaWRl", SIM_RECORD_FOREIGN | SIM_RECORD_TAMPERED);
    count_fault(call, "record-beside");
  } else {
    sim_zone_commit(sim, zone, content);
    return fail(call, "a record can be: deleted, edited, beside (another one is put beside it)");
  }
  sim_zone_commit(sim, zone, content);
  return true;
}

static bool do_zone(struct call *call) {
  struct sim *sim = call->sim;
  size_t domain = 0;
  int64_t ttl = 0;
  if (call->count != 4 || !text_equal(call->words[2], "negative-ttl") || !take_domain(call, call->words[1], &domain) || !take_duration(call, call->words[3], &ttl))
    return fail(call, "zone DOMAIN negative-ttl TTL");
  struct sim_zone *zone = sim_record_zone(sim, domain);
  struct sim_content *content = sim_zone_edit(zone);
  content->soa_ttl = content->minimum = (uint32_t)(ttl / 1000);
  sim_zone_commit(sim, zone, content);
  count_fault(call, "zone-ttl");
  return true;
}

/* ---- operators ---- */

static bool do_policy(struct call *call) {
  if (call->count != 3 || !sim_policy_set(call->sim, call->words[1], call->words[2])) return fail(call, "policy KEY VALUE, with a key of README.md");
  sim_policy_write(call->sim);
  count_fault(call, "policy");
  sim_loop_interrupt(call->sim->clock);
  return true;
}

static bool do_domain(struct call *call) {
  struct sim *sim = call->sim;
  size_t domain = 0;
  if (call->count < 3 || !take_domain(call, call->words[1], &domain)) return fail(call, "domain DOMAIN joins|leaves|signers LIST");
  if (call->count == 4 && text_equal(call->words[2], "signers")) {
    unsigned bits = 0;
    for (const char *c = call->words[3]; *c; c++)
      if (*c >= '1' && (size_t)(*c - '1') < sim->signer_count) bits |= 1u << (*c - '1');
    if (!bits) return fail(call, "at least one signer: 1, 2 or 1,2");
    sim->domain_signers[domain] = bits;
    /* Whoever gives the domain back to a signer that it was taken from sends mail there at his own risk until the key is there again. */
    for (size_t i = 0; i < sim->signer_count; i++)
      if (!(bits >> i & 1)) sim->places[i][domain].has_signed = false;
  } else if (text_equal(call->words[2], "joins") || text_equal(call->words[2], "leaves")) {
    sim->present[domain] = text_equal(call->words[2], "joins");
  } else {
    return fail(call, "domain DOMAIN joins|leaves|signers LIST");
  }
  sim_policy_write(sim);
  count_fault(call, "domain");
  sim_loop_interrupt(sim->clock);
  return true;
}

static bool request(struct call *call, enum store_request_kind kind, const char *fault) {
  size_t domain = 0;
  int64_t duration = 0, until = TIME_NEVER;
  if (call->count < 2 || !take_domain(call, call->words[1], &domain)) return false;
  if (call->count == 3 && take_duration(call, call->words[2], &duration)) until = sim_loop_wall(call->sim->clock) + duration / 1000;
  sim_host_request(call->sim, kind, call->words[1], until, text_equal(call->words[0], "hold-activation") ? HOLD_ACTIVATION : HOLD_ALL);
  count_fault(call, fault);
  sim_loop_interrupt(call->sim->clock);
  return true;
}
static bool do_hold_activation(struct call *call) { return request(call, REQUEST_HOLD, "hold-activation"); }
static bool do_hold(struct call *call) { return request(call, REQUEST_HOLD, "hold"); }
static bool do_release(struct call *call) { return request(call, REQUEST_RELEASE, "hold"); }
static bool do_rotate(struct call *call) { return request(call, REQUEST_ROTATE, "rotate"); }
/* The operator names a key by what she sees: in the mail, or in DNS. */
static bool do_revoke(struct call *call) {
  struct sim *sim = call->sim;
  char selector[DNS_NAME_TEXT_SIZE];
  size_t domain = 0;
  unsigned options = 0;
  if (call->count < 3 || !take_domain(call, call->words[1], &domain)) return fail(call, "revoke DOMAIN signing|newest|oldest [host] [now]");
  for (size_t i = 3; i < call->count; i++) options |= text_equal(call->words[i], "host") ? REQUEST_WHOLE_HOST : text_equal(call->words[i], "now") ? REQUEST_NOW : 0;
  const struct sim_content *content = sim_zone_at(sim_record_zone(sim, domain), 0);
  const size_t record = find_record(sim, domain, content, call->words[2]);
  if (record == SIZE_MAX) return true;
  text_copy(selector, sizeof selector, content->records[record].name);
  selector[strcspn(selector, ".")] = '\0';
  sim_trace(sim, "somebody has the key %s of %s", selector, call->words[1]);
  sim_emergency_ask(sim, domain, selector, options);
  count_fault(call, "revoke");
  sim_loop_interrupt(sim->clock);
  return true;
}
static bool do_forget(struct call *call) { return request(call, REQUEST_FORGET, "forget"); }

/* ---- clocks, crashes, keeper ---- */

static bool do_clock(struct call *call) {
  struct sim_loop *clock = call->sim->clock;
  int64_t offset = 0;
  if (call->count == 3 && text_equal(call->words[1], "jumps") && take_duration(call, call->words[2], &offset)) {
    sim_loop_set_wall_error(clock, sim_loop_wall_error(clock) + offset / 1000);
    sim_loop_set_synchronised(clock, false); /* whoever sets Linux's clock ends its synchronisation: STA_UNSYNC */
    count_fault(call, "clock-jump");
  } else if (call->count == 2 && text_equal(call->words[1], "right")) {
    sim_loop_set_wall_error(clock, 0);
    sim_loop_set_synchronised(clock, true);
  } else if (call->count == 2 && text_equal(call->words[1], "unsynchronised")) {
    sim_loop_set_synchronised(clock, false);
    count_fault(call, "unsynchronised");
  } else if (call->count == 2 && text_equal(call->words[1], "synchronised")) {
    sim_loop_set_synchronised(clock, true);
  } else {
    return fail(call, "clock jumps OFFSET|right|unsynchronised|synchronised");
  }
  call->sim->dirty = true;
  sim_loop_interrupt(clock);
  return true;
}

/* The host goes down with everything on it, and comes up again. */
static void reboot(struct sim *sim) {
  if (sim->engine) sim_loop_stop_process(sim->clock);
  sim_loop_reboot(sim->clock);
  for (size_t i = 0; i < sim->signer_count; i++) sim_filter_restart(sim, i);
  sim->dirty = true;
  sim_loop_interrupt(sim->clock);
}

static bool do_reboot(struct call *call) {
  int64_t offset = 0;
  if (call->count == 3 && text_equal(call->words[1], "clock")) {
    if (!take_duration(call, call->words[2], &offset)) return false;
    sim_loop_set_wall_error(call->sim->clock, offset / 1000);
    sim_loop_set_synchronised(call->sim->clock, false);
  } else if (call->count != 1) {
    return fail(call, "reboot [clock OFFSET]");
  }
  count_fault(call, "reboot");
  reboot(call->sim);
  return true;
}

void sim_power_cut(struct sim *sim) {
  const uint64_t outcome = sim->seed + sim_loop_callbacks(sim->clock);
  sim_trace(sim, "the power goes");
  sim->power_is_gone = sim->engine != NULL;
  sim_disk_crash(&sim->disk, outcome);
  sim_files_crash(&sim->files, outcome);
  sim->worker_is_killed = false;
  if (!sim->engine) sim_host_close(sim);
  reboot(sim);
}

/* In the middle of what is done to files: after so many changes of them from now on. */
static bool files_last(struct call *call, bool worker) {
  char *end = NULL;
  const long number = strtol(call->words[call->count - 1], &end, 10);
  if (number < 1 || *end) return fail(call, "that is no number of changes");
  call->sim->files.power_lasts = (uint64_t)number;
  call->sim->worker_is_killed = worker;
  return true;
}

static bool do_power_cut(struct call *call) {
  count_fault(call, "power-cut");
  if (call->count == 3 && text_equal(call->words[1], "after")) return files_last(call, false);
  if (call->count != 1) return fail(call, "power-cut [after CHANGES]");
  sim_power_cut(call->sim);
  return true;
}

/* ---- the disk ---- */

static void disk_check(struct sim *sim) {
  const int64_t now = sim_loop_now(sim->clock);
  if (sim->disk_full_until <= now) sim->disk.room = sim->files.room = -1;
  if (sim->disk_write_until <= now) sim->disk.write_fails = sim->files.write_fails = 0;
  if (sim->disk_sync_until <= now) sim->disk.sync_fails = sim->files.sync_fails = 0;
}
static void disk_recover(void *context) { disk_check(context); }

static bool do_disk(struct call *call) {
  struct sim *sim = call->sim;
  int64_t *until = NULL;
  const char *last = call->words[call->count - 1];
  if (call->count == 3 && text_equal(call->words[1], "full")) {
    if (!server_until(call, until = &sim->disk_full_until, last, "disk-full")) return false;
    sim->disk.room = SIM_RANDOM(sim, 40000);
    sim->files.room = SIM_RANDOM(sim, 2000);
  } else if (call->count == 4 && text_equal(call->words[1], "write-fails")) {
    if (!take_percent(call, call->words[2], &sim->disk.write_fails) || !server_until(call, until = &sim->disk_write_until, last, "disk-write")) return false;
    sim->files.write_fails = sim->disk.write_fails;
  } else if (call->count == 4 && text_equal(call->words[1], "sync-fails")) {
    if (!take_percent(call, call->words[2], &sim->disk.sync_fails) || !server_until(call, until = &sim->disk_sync_until, last, "disk-sync")) return false;
    sim->files.sync_fails = sim->disk.sync_fails;
  } else {
    return fail(call, "disk full DURATION, disk write-fails|sync-fails PERCENT DURATION");
  }
  sim_loop_at(sim->clock, *until, disk_recover, sim, false);
  return true;
}

static bool do_crash(struct call *call) {
  char *end = NULL;
  const long number = call->count == 3 && text_equal(call->words[1], "after") ? strtol(call->words[2], &end, 10) : 0;
  if (number < 1) return fail(call, "crash after CALLBACKS");
  call->sim->crash_next = (uint64_t)number;
  if (call->sim->engine) sim_loop_crash_after(call->sim->clock, (uint64_t)number);
  count_fault(call, "crash");
  return true;
}

/* ---- signers ---- */

struct recovery {
  struct sim *sim;
  size_t signer;
  unsigned downs;
  bool *flag;
};

static void recover(void *context) {
  struct recovery *recovery = context;
  if (recovery->flag)
    *recovery->flag = false;
  else if (recovery->sim->signer_downs[recovery->signer] == recovery->downs)
    sim_filter_restart(recovery->sim, recovery->signer);
  free(recovery);
}

static bool recover_later(struct call *call, size_t signer, const char *word, bool *flag) {
  int64_t duration = 0;
  if (!take_duration(call, word, &duration)) return false;
  struct recovery *recovery = malloc(sizeof *recovery);
  if (!recovery) abort();
  *recovery = (struct recovery){call->sim, signer, call->sim->signer_downs[signer], flag};
  sim_loop_at(call->sim->clock, now_of(call) + duration, recover, recovery, true);
  if (flag) *flag = true;
  return true;
}

static bool do_signer(struct call *call) {
  struct sim *sim = call->sim;
  size_t signer = 0;
  if (call->count < 3 || !take_number(call, call->words[1], "s", sim->signer_count, &signer)) return false;
  struct sim_signer_faults *faults = sim_filter_faults(sim, signer);
  const char *what = call->words[2];
  const struct {
    const char *word, *kind;
    bool *flag;
  } simple[] = {{"refuses", "signer-refuses", &faults->refuses},
                {"hangs", "signer-hangs", &faults->hangs},
                {"reload-fails", "reload-fails", &faults->reload_fails},
                {"reload-lost", "reload-lost", &faults->reload_is_lost}};
  for (size_t i = 0; i < ARRAY_SIZE(simple); i++)
    if (call->count == 4 && text_equal(what, simple[i].word)) {
      count_fault(call, simple[i].kind);
      return recover_later(call, signer, call->words[3], simple[i].flag);
    }
  if (call->count == 4 && text_equal(what, "down")) {
    sim->signer_downs[signer]++;
    sim_filter_stop(sim, signer);
    count_fault(call, "signer-down");
    return recover_later(call, signer, call->words[3], NULL);
  }
  if (call->count == 4 && (text_equal(what, "cuts") || text_equal(what, "loses"))) {
    count_fault(call, text_equal(what, "cuts") ? "signer-cuts" : "signer-loses");
    return take_percent(call, call->words[3], text_equal(what, "cuts") ? &faults->cuts : &faults->loses);
  }
  if (call->count == 3 && text_equal(what, "restarts")) {
    count_fault(call, "signer-restart");
    sim_filter_restart(sim, signer);
    return true;
  }
  return fail(call, "a signer can: down, refuses, hangs, reload-fails, reload-lost DURATION; cuts, loses PERCENT (until calm); restarts");
}

static bool do_tables(struct call *call) {
  size_t signer = 0, domain = 0;
  if (call->count < 3 || !take_number(call, call->words[1], "s", call->sim->signer_count, &signer)) return false;
  count_fault(call, call->count == 3 ? "tables" : "tables-dropped");
  if (call->count == 3 && text_equal(call->words[2], "foreign")) return sim_tables_foreign(call->sim, signer);
  if (call->count == 4 && take_domain(call, call->words[2], &domain)) {
    if (text_equal(call->words[3], "sender-dropped")) return sim_tables_drop_lines(call->sim, signer, "SigningTable", domain, true);
    if (text_equal(call->words[3], "key-dropped")) return sim_tables_drop_lines(call->sim, signer, "KeyTable", domain, true);
  }
  return fail(call, "tables SIGNER foreign, tables SIGNER DOMAIN sender-dropped|key-dropped");
}

/* What dkimroll must never do, done in its place, to show that the oracle sees it right beside what it excuses (tests/unit/test_sim_oracle.c). */
static bool do_defect(struct call *call) {
  struct sim *sim = call->sim;
  size_t signer = 0, domain = 0;
  if (call->count == 3 && text_equal(call->words[1], "jobs")) {
    for (unsigned long i = strtoul(call->words[2], NULL, 10); i > 0; i--) sim_oracle_effort(sim);
    return true;
  }
  if (call->count < 3 || !take_domain(call, call->words[2], &domain)) return fail(call, "defect sender-lost|record-lost|switch-unseen DOMAIN [SIGNER], defect jobs N");
  struct sim_zone *zone = sim_record_zone(sim, domain);
  const size_t i = find_record(sim, domain, sim_zone_at(zone, 0), "signing");
  if (text_equal(call->words[1], "sender-lost") && call->count == 4 && take_number(call, call->words[3], "s", sim->signer_count, &signer))
    return sim_tables_drop_lines(sim, signer, "SigningTable", domain, false);
  if (text_equal(call->words[1], "record-lost") && i != SIZE_MAX) {
    struct sim_content *content = sim_zone_edit(zone);
    sim_content_remove(content, i);
    sim_zone_commit(sim, zone, content);
    return true;
  }
  if (text_equal(call->words[1], "switch-unseen")) {
    for (size_t n = 0; n < sim->name_count; n++) sim->names[n].has_signed = false;
    sim_mail_domain(sim, domain);
    return true;
  }
  return fail(call, "there is no such defect, or nothing to do it to");
}

static bool do_keeper(struct call *call) {
  struct sim *sim = call->sim;
  if (call->count == 4 && text_equal(call->words[1], "fails"))
    return take_percent(call, call->words[2], &sim->keeper_fails) && server_until(call, &sim->keeper_fails_until, call->words[3], "keeper-fails");
  if (call->count == 4 && text_equal(call->words[1], "hangs"))
    return take_percent(call, call->words[2], &sim->keeper_hangs) && server_until(call, &sim->keeper_hangs_until, call->words[3], "keeper-hangs");
  if (call->count == 2 && text_equal(call->words[1], "dies")) {
    sim->keeper_dies = true;
    count_fault(call, "keeper-dies");
    return true;
  }
  if (call->count == 4 && text_equal(call->words[1], "killed") && text_equal(call->words[2], "after")) {
    count_fault(call, "keeper-killed");
    return files_last(call, true);
  }
  return fail(call, "keeper fails|hangs PERCENT DURATION, keeper dies, keeper killed after CHANGES");
}

/* The lid of the machine is closed. */
static bool do_suspend(struct call *call) {
  int64_t duration = 0;
  if (call->count != 2 || !take_duration(call, call->words[1], &duration) || duration <= 0) return fail(call, "suspend DURATION");
  count_fault(call, "suspend");
  sim_loop_suspend(call->sim->clock, sim_loop_now(call->sim->clock) + duration);
  return true;
}

/* Somebody has stopped it, and starts it again after that time. */
static bool do_away(struct call *call) {
  int64_t duration = 0;
  if (call->count != 2 || !take_duration(call, call->words[1], &duration) || duration <= 0) return fail(call, "away DURATION");
  count_fault(call, "away");
  call->sim->away_until = sim_loop_now(call->sim->clock) + duration;
  if (call->sim->engine) engine_stop(call->sim->engine);
  call->sim->dirty = true;
  return true;
}

static bool do_tool(struct call *call) {
  struct sim *sim = call->sim;
  if (call->count == 4 && text_equal(call->words[1], "fails"))
    return take_percent(call, call->words[2], &sim->tool_fails) && server_until(call, &sim->tool_fails_until, call->words[3], "tool-fails");
  if (call->count == 4 && text_equal(call->words[1], "lies"))
    return take_percent(call, call->words[2], &sim->tool_lies) && server_until(call, &sim->tool_lies_until, call->words[3], "tool-lies");
  if (call->count == 4 && text_equal(call->words[1], "hangs"))
    return take_percent(call, call->words[2], &sim->tool_hangs) && server_until(call, &sim->tool_hangs_until, call->words[3], "tool-hangs");
  return fail(call, "tool fails|lies|hangs PERCENT DURATION");
}

static bool do_fragments(struct call *call) {
  if (call->count != 2 || !text_equal(call->words[1], "lost")) return fail(call, "fragments lost");
  count_fault(call, "fragments-lost");
  return sim_runner_lose_fragments(call->sim) || fail(call, "there are none in this world");
}

static bool do_store(struct call *call) {
  if (call->count != 2 || !text_equal(call->words[1], "lost")) return fail(call, "store lost");
  if (call->sim->engine) return fail(call, "a run is at work");
  count_fault(call, "store-lost");
  sim_host_lose_store(call->sim);
  return true;
}

static bool do_import(struct call *call) {
  count_fault(call, "import");
  return sim_import(call->sim) || fail(call, "a run is at work");
}

static bool do_how_to(struct call *call) {
  size_t domain = 0;
  if (call->count != 3 || !take_domain(call, call->words[1], &domain)) return fail(call, "how-to DOMAIN SELECTOR");
  sim_how_to(call->sim, domain, call->words[2]);
  return true;
}

static bool do_run(struct call *call) {
  call->sim->dirty = true;
  sim_loop_interrupt(call->sim->clock);
  return true;
}

static bool do_mail(struct call *call) {
  size_t domain = 0;
  if (call->count != 2 || !take_domain(call, call->words[1], &domain)) return false;
  sim_mail_domain(call->sim, domain);
  return true;
}

/* ---- expectations ---- */

struct tally {
  const char *word;
  size_t count;
};

static int tally_state(void *context, const void *row) {
  struct tally *tally = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++) tally->count += text_equal(key_state_name(lineage->keys[i].state), tally->word);
  return 0;
}

static int tally_event(void *context, const void *row) {
  struct tally *tally = context;
  tally->count += text_equal(((const struct event *)row)->kind, tally->word);
  return 0;
}

static bool expect_count(struct call *call, enum store_select_kind kind, const char *domain, const char *word, const char *number) {
  struct store *store = sim_host_store(call->sim);
  struct tally tally = {.word = word};
  struct error error = {0};
  const struct store_filter filter = {.domain = domain};
  const bool least = number[0] == '>';
  char *end = NULL;
  const size_t wanted = strtoul(number + least, &end, 10);
  if (*end) return fail(call, "that is no number");
  if (store && store->ops->select(store, kind, &filter, kind == STORE_SELECT_EVENTS ? tally_event : tally_state, &tally, &error))
    sim_violate(call->sim, "expectation", "%s", error.message);
  const bool right = least ? tally.count > wanted : tally.count == wanted;
  if (!right) sim_violate(call->sim, "expectation", "%s %s %s is not so: %zu", domain, word, number, tally.count);
  return true;
}

static bool do_expect(struct call *call) {
  struct sim *sim = call->sim;
  char why[SIM_LINE];
  size_t domain = 0;
  if (call->count == 2 && text_equal(call->words[1], "well")) {
    const char *ill = sim_oracle_ill(sim, NULL, why, sizeof why);
    if (ill) sim_violate(sim, "expectation", "%s", ill);
    return true;
  }
  if (call->count < 3 || !take_domain(call, call->words[1], &domain)) return fail(call, "expect well, or expect DOMAIN well|ill|STATE N|event KIND N|signs newest|oldest");
  const bool well = text_equal(call->words[2], "well");
  if (call->count == 3 && (well || text_equal(call->words[2], "ill"))) {
    const char *ill = sim_oracle_ill(sim, call->words[1], why, sizeof why);
    if (well && ill) sim_violate(sim, "expectation", "%s", ill);
    if (!well && !ill) sim_violate(sim, "expectation", "%s is well", call->words[1]);
    return true;
  }
  if (call->count == 4 && text_equal(call->words[2], "signs")) {
    const size_t record = find_record(sim, domain, sim_zone_at(sim_record_zone(sim, domain), 0), call->words[3]);
    const char *const selector = sim->places[0][domain].selector;
    const char *const name = record == SIZE_MAX ? "" : sim_zone_at(sim_record_zone(sim, domain), 0)->records[record].name;
    if (!text_starts(name, selector) || name[strlen(selector)] != '.')
      sim_violate(sim, "expectation", "%s signs with %s and not with the %s, %s", call->words[1], selector, call->words[3], name);
    return true;
  }
  if (call->count == 5 && text_equal(call->words[2], "event")) return expect_count(call, STORE_SELECT_EVENTS, call->words[1], call->words[3], call->words[4]);
  if (call->count == 4) return expect_count(call, STORE_SELECT_LINEAGES, call->words[1], call->words[2], call->words[3]);
  return fail(call, "expect DOMAIN well|ill|STATE N|event KIND N|signs newest|oldest");
}

/* ---- the table ---- */

static const struct {
  const char *word;
  bool (*run)(struct call *call);
} rows[] = {
    {"server", do_server}, {"primary", do_primary}, {"record", do_record}, {"zone", do_zone},       {"policy", do_policy},
    {"domain", do_domain}, {"hold", do_hold},       {"hold-activation", do_hold_activation}, {"release", do_release}, {"rotate", do_rotate}, {"forget", do_forget}, {"revoke", do_revoke},
    {"clock", do_clock},   {"reboot", do_reboot},   {"power-cut", do_power_cut}, {"crash", do_crash}, {"keeper", do_keeper}, {"tables", do_tables}, {"disk", do_disk}, {"signer", do_signer},
    {"suspend", do_suspend}, {"away", do_away},     {"tool", do_tool},     {"fragments", do_fragments},
    {"store", do_store}, {"import", do_import}, {"how-to", do_how_to}, {"defect", do_defect}, {"resolver", do_resolver}, {"receivers", do_receivers}, {"ipv6", do_ipv6},
    {"run", do_run},       {"mail", do_mail},       {"expect", do_expect},
};

bool sim_action_do(struct sim *sim, const struct sim_action *action, char *why, size_t size) {
  struct call call = {.sim = sim, .why = why, .size = size};
  char text[SIM_LINE], *rest = text;
  text_copy(text, sizeof text, action->text);
  why[0] = '\0';
  for (char *word; call.count < SIM_WORDS_MAX && (word = strsep(&rest, " \t")) != NULL;)
    if (*word) call.words[call.count++] = word;
  sim_trace(sim, "-- %s", action->text);
  for (size_t i = 0; call.count && i < ARRAY_SIZE(rows); i++) {
    if (!text_equal(rows[i].word, call.words[0])) continue;
    if (rows[i].run(&call)) return true;
    return why[0] ? false : fail(&call, "words are missing");
  }
  return fail(&call, "there is no such action");
}

/* What people put right once they see it; what dkimroll can put right alone is left to it. */
static void calm_zone(struct sim *sim, struct sim_zone *zone) {
  struct sim_content *content = sim_zone_edit(zone);
  content->name_servers = (1u << sim->server_count) - 1;
  for (size_t i = content->count; i-- > 0;) {
    struct sim_record *record = &content->records[i];
    if (!(record->flags & SIM_RECORD_TAMPERED)) continue;
    if (record->flags & SIM_RECORD_FOREIGN) {
      sim_content_remove(content, i);
    } else if (text_equal(record->text, "v=DKIM1; k=ed25519; p=bm90IG91cnM=")) {
      record->flags |= SIM_RECORD_TORN;
    } else {
      record->flags &= ~(unsigned)SIM_RECORD_TAMPERED;
    }
  }
  sim_zone_commit(sim, zone, content);
}

void sim_calm(struct sim *sim) {
  sim_trace(sim, "-- calm");
  for (size_t i = 0; i < sim->server_count; i++) {
    struct sim_server *server = &sim->servers[i];
    server->down_until = server->refuses_until = server->servfail_until = server->truncates_until = server->contradicts_until = 0;
    server->frozen_until = server->loses_requests_until = server->loses_replies_until = server->lags_until = 0;
  }
  for (size_t i = 0; i < SIM_RESOLVERS; i++) sim->resolvers[i] = (struct sim_resolver){0};
  sim->receivers_defer_until = 0;
  for (size_t z = 0; z < sim->zone_count; z++) calm_zone(sim, &sim->zones[z]);
  sim_servers_resync(sim);
  sim->rejects_until = sim->primary_clock_until = sim->keeper_fails_until = sim->keeper_hangs_until = 0;
  sim->keeper_dies = false;
  sim->tool_fails_until = sim->tool_lies_until = sim->tool_hangs_until = 0;
  sim->disk_full_until = sim->disk_write_until = sim->disk_sync_until = 0;
  disk_check(sim);
  sim_files_kill(&sim->files);
  for (size_t i = 0; i < sim->signer_count; i++) {
    struct sim_signer_faults *faults = sim_filter_faults(sim, i);
    *faults = (struct sim_signer_faults){.latency_ms = faults->latency_ms};
    if (!sim_signer_is_up(sim->signer_items[i])) sim_filter_restart(sim, i);
  }
  sim_loop_set_wall_error(sim->clock, 0);
  sim_loop_set_synchronised(sim->clock, true);
  for (size_t i = 0; i < sim->domain_count; i++) {
    sim->present[i] = true;
    sim_host_request(sim, REQUEST_RELEASE, sim->zones[i].name, TIME_NEVER, HOLD_ALL);
  }
  sim_policy_write(sim);
  sim->is_calm = true;
  sim_loop_interrupt(sim->clock);
}
