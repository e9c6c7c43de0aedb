/* The scenario of a seed: a world, a policy, and faults at random moments, all of it text that a person can read and the minimiser can cut. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "sim.h"

struct dice {
  struct entropy_seeded random;
  struct sim_script *script;
  const char *faults;
  unsigned days;
  size_t domains, servers, signers;
  bool fragments, ipv6, tool; /* what the world has */
  unsigned by_hand;           /* keys of how-tos */
};

static unsigned roll(struct dice *dice, unsigned limit) { return entropy_below(&dice->random.entropy, limit); }
static const char *pick(struct dice *dice, const char *const *words, size_t count) { return words[roll(dice, (unsigned)count)]; }
#define PICK(dice, ...) pick(dice, (const char *const[]){__VA_ARGS__}, sizeof(const char *[]){__VA_ARGS__} / sizeof(char *))

static bool wanted(const struct dice *dice, const char *kind) {
  if (!dice->faults) return true;
  const size_t size = strlen(kind);
  for (const char *at = dice->faults; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ','))
    if (strcspn(at, ",") == size && strncmp(at, kind, size) == 0) return true;
  return false;
}

/* How many faults of one kind, about: one in so many days. */
typedef void act(struct dice *dice, const char *at);

static const char *domain_of(struct dice *dice) {
  static const char *const names[] = {"a.test", "b.test", "c.test", "d.test", "e.test"};
  return names[roll(dice, (unsigned)dice->domains)];
}
static unsigned any_server(struct dice *dice) { return 1 + roll(dice, (unsigned)dice->servers); }
static unsigned any_secondary(struct dice *dice) { return 2 + roll(dice, (unsigned)dice->servers - 1); }
static const char *span(struct dice *dice) { return PICK(dice, "1m", "10m", "1h", "5h", "1d", "2d"); }

#define SIMPLE(name, text)                                                                                                                                     \
  static void name(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s server ns%u " text " %s", at, any_server(dice), span(dice)); }
SIMPLE(outage, "down")
SIMPLE(refusal, "refuses")
SIMPLE(servfail, "servfail")
SIMPLE(truncation, "truncates")
SIMPLE(contradiction, "contradicts")
static void lost_request(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s server ns%u loses-requests %u %s", at, any_server(dice), 5 + roll(dice, 80), span(dice));
}
static void lost_reply(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s server ns%u loses-replies %u %s", at, any_server(dice), 5 + roll(dice, 80), span(dice));
}
static void lag(struct dice *dice, const char *at) {
  if (dice->servers > 1) sim_script_add(dice->script, "at %s server ns%u lags %s %s", at, any_secondary(dice), PICK(dice, "1m", "20m", "3h", "1d"), span(dice));
}
static void backup(struct dice *dice, const char *at) {
  if (dice->servers > 1) sim_script_add(dice->script, "at %s server ns%u forgets %s %s", at, any_secondary(dice), PICK(dice, "1h", "1d", "5d"), span(dice));
}
static void primary_backup(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s primary forgets %s", at, PICK(dice, "1h", "1d", "5d")); }
static void update_refused(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s primary rejects %s", at, span(dice)); }
static void primary_clock(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s primary clock %s %s", at, PICK(dice, "-1h", "10m", "+1d"), span(dice));
}
static void record_deleted(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s record %s %s deleted", at, domain_of(dice), PICK(dice, "signing", "newest", "oldest"));
}
static void record_edited(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s record %s %s edited", at, domain_of(dice), PICK(dice, "signing", "newest", "oldest"));
}
static void record_beside(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s record %s %s beside", at, domain_of(dice), PICK(dice, "signing", "newest", "oldest"));
}
static void name_servers(struct dice *dice, const char *at) {
  if (dice->servers > 1) sim_script_add(dice->script, "at %s server ns%u %s", at, any_secondary(dice), PICK(dice, "joins", "leaves"));
}
static void policy(struct dice *dice, const char *at) {
  static const char *const keys[] = {"rotate-every", "ttl", "safety", "queue-lifetime", "verify-window", "tombstone", "drain", "sightings", "standby"};
  static const char *const values[][3] = {{"10d", "20d", "never"}, {"10m", "1h", "1d"}, {"10m", "1h", "6h"}, {"1d", "2d", "5d"}, {"1h", "1d", "3d"},
                                          {"0s", "1d", "5d"},      {"10m", "1h", "6h"}, {"1", "2", "4"},    {"0", "1", "2"}};
  const unsigned i = roll(dice, ARRAY_SIZE(keys));
  sim_script_add(dice->script, "at %s policy %s %s", at, keys[i], values[i][roll(dice, 3)]);
}
static void domain(struct dice *dice, const char *at) {
  if (dice->signers > 1 && roll(dice, 2))
    sim_script_add(dice->script, "at %s domain %s signers %s", at, domain_of(dice), PICK(dice, "1", "2", "1,2"));
  else
    sim_script_add(dice->script, "at %s domain %s %s", at, domain_of(dice), PICK(dice, "leaves", "joins", "joins"));
}
static void hold(struct dice *dice, const char *at) {
  if (roll(dice, 2))
    sim_script_add(dice->script, "at %s hold %s %s", at, domain_of(dice), span(dice));
  else
    sim_script_add(dice->script, "at %s %s %s", at, PICK(dice, "hold", "release"), domain_of(dice));
}
static void revoke_key(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s revoke %s %s%s", at, domain_of(dice), PICK(dice, "signing", "signing", "newest", "oldest"), PICK(dice, "", "", " now", " host"));
}
static void rotate(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s rotate %s", at, domain_of(dice)); }
static void clock_jump(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s clock jumps %s", at, PICK(dice, "+2m", "-2m", "+5h", "-5h", "+30d", "-30d", "+3650d"));
  sim_script_add(dice->script, "at %ud%uh clock right", (unsigned)strtoul(at, NULL, 10) + roll(dice, 3), roll(dice, 24));
}
static void unsynchronised(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s clock %s", at, PICK(dice, "unsynchronised", "synchronised")); }
static void reboot(struct dice *dice, const char *at) {
  if (roll(dice, 2)) {
    sim_script_add(dice->script, "at %s reboot", at);
    return;
  }
  sim_script_add(dice->script, "at %s reboot clock %s", at, PICK(dice, "+3650d", "-3650d", "+1h", "-1h", "+8d", "-8d"));
  sim_script_add(dice->script, "at %ud%uh clock right", (unsigned)strtoul(at, NULL, 10) + roll(dice, 3), roll(dice, 24));
}
static void crash(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s crash after %u", at, 1 + roll(dice, roll(dice, 2) ? 60 : 600)); }
static void power_cut(struct dice *dice, const char *at) {
  if (roll(dice, 2))
    sim_script_add(dice->script, "at %s power-cut", at);
  else
    sim_script_add(dice->script, "at %s power-cut after %u", at, 1 + roll(dice, 40));
}
static void keeper_killed(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s keeper killed after %u", at, 1 + roll(dice, 40)); }
static void signer_acts(struct dice *dice, const char *at, const char *what) {
  sim_script_add(dice->script, "at %s signer s%u %s %s", at, 1 + roll(dice, (unsigned)dice->signers), what, span(dice));
}
static void signer_down(struct dice *dice, const char *at) { signer_acts(dice, at, "down"); }
static void signer_refuses(struct dice *dice, const char *at) { signer_acts(dice, at, "refuses"); }
static void signer_hangs(struct dice *dice, const char *at) { signer_acts(dice, at, "hangs"); }
static void reload_fails(struct dice *dice, const char *at) { signer_acts(dice, at, "reload-fails"); }
static void reload_lost(struct dice *dice, const char *at) { signer_acts(dice, at, "reload-lost"); }
static void signer_cuts(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s signer s%u cuts %u", at, 1 + roll(dice, (unsigned)dice->signers), roll(dice, 2) ? 0 : 5 + roll(dice, 30));
}
static void signer_loses(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s signer s%u loses %u", at, 1 + roll(dice, (unsigned)dice->signers), roll(dice, 2) ? 0 : 5 + roll(dice, 30));
}
static void keeper_fails(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s keeper fails %u %s", at, 10 + roll(dice, 90), span(dice)); }
static void keeper_hangs(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s keeper hangs %u %s", at, 10 + roll(dice, 90), span(dice)); }
static void tables(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s tables s%u foreign", at, 1 + roll(dice, (unsigned)dice->signers)); }
static void disk_full(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s disk full %s", at, span(dice)); }
static void disk_write(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s disk write-fails %u %s", at, 1 + roll(dice, 20), span(dice)); }
static void disk_sync(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s disk sync-fails %u %s", at, 1 + roll(dice, 20), span(dice)); }
static void keeper_dies(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s keeper dies", at); }

struct known_act {
  const char *kind;
  act *act;
  unsigned days; /* one in so many, on average, in a world that has this kind at all */
};

static const struct known_act acts[] = {
    {"outage", outage, 6},           {"refusal", refusal, 12},       {"servfail", servfail, 12},       {"truncation", truncation, 12},
    {"contradiction", contradiction, 15}, {"lost-request", lost_request, 8}, {"lost-reply", lost_reply, 8}, {"lag", lag, 8},
    {"backup", backup, 15},          {"primary-backup", primary_backup, 40}, {"update-refused", update_refused, 15}, {"primary-clock", primary_clock, 20},
    {"record-deleted", record_deleted, 15}, {"record-edited", record_edited, 40}, {"record-beside", record_beside, 40}, {"name-servers", name_servers, 20},
    {"policy", policy, 10},          {"domain", domain, 20},         {"hold", hold, 15},               {"rotate", rotate, 10},
    {"clock-jump", clock_jump, 30},  {"unsynchronised", unsynchronised, 30}, {"reboot", reboot, 20},   {"crash", crash, 2},
    {"signer-down", signer_down, 10}, {"signer-refuses", signer_refuses, 15}, {"signer-hangs", signer_hangs, 15}, {"signer-cuts", signer_cuts, 12},
    {"signer-loses", signer_loses, 12}, {"reload-fails", reload_fails, 12}, {"reload-lost", reload_lost, 12},
    {"tables", tables, 15}, {"disk-full", disk_full, 15}, {"disk-write", disk_write, 15}, {"disk-sync", disk_sync, 15}, {"power-cut", power_cut, 15},    {"keeper-fails", keeper_fails, 10}, {"keeper-hangs", keeper_hangs, 15}, {"keeper-dies", keeper_dies, 15}, {"keeper-killed", keeper_killed, 10},
    {"revoke", revoke_key, 15},
};

/* ---- what came later: rolled with dice of their own, so that lives without it stay what they were ---- */

static void hold_activation(struct dice *dice, const char *at) {
  if (roll(dice, 2))
    sim_script_add(dice->script, "at %s hold-activation %s %s", at, domain_of(dice), span(dice));
  else
    sim_script_add(dice->script, "at %s %s %s", at, PICK(dice, "hold-activation", "release"), domain_of(dice));
}
static void forget(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s forget %s", at, domain_of(dice)); }
static void zone_ttl(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s zone %s negative-ttl %s", at, domain_of(dice), PICK(dice, "1m", "15m", "1h", "1d"));
}
static void tables_dropped(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s tables s%u %s %s", at, 1 + roll(dice, (unsigned)dice->signers), domain_of(dice), PICK(dice, "sender-dropped", "key-dropped"));
}
static void signer_restart(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s signer s%u restarts", at, 1 + roll(dice, (unsigned)dice->signers));
}
static void sleep_of_host(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s suspend %s", at, span(dice)); }
static void away(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s away %s", at, span(dice)); }
static void resolver(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s resolver r%u %s %s", at, 1 + roll(dice, 2), PICK(dice, "down", "servfail"), span(dice));
}
static void receivers(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s receivers defer %s", at, span(dice)); }
static void ipv6_route(struct dice *dice, const char *at) { sim_script_add(dice->script, "at %s ipv6 routed %s", at, span(dice)); }
static void tool(struct dice *dice, const char *at, const char *what) {
  sim_script_add(dice->script, "at %s tool %s %u %s", at, what, 10 + roll(dice, 90), span(dice));
}
static void tool_fails(struct dice *dice, const char *at) { tool(dice, at, "fails"); }
static void tool_lies(struct dice *dice, const char *at) { tool(dice, at, "lies"); }
static void tool_hangs(struct dice *dice, const char *at) { tool(dice, at, "hangs"); }
static void fragments_lost(struct dice *dice, const char *at) {
  if (dice->fragments) sim_script_add(dice->script, "at %s fragments lost", at);
}

static const struct known_act later_acts[] = {
    {"hold-activation", hold_activation, 20}, {"forget", forget, 40},  {"zone-ttl", zone_ttl, 20},   {"tables-dropped", tables_dropped, 20},
    {"signer-restart", signer_restart, 15},   {"suspend", sleep_of_host, 20}, {"away", away, 20},     {"resolver", resolver, 8},
    {"receivers", receivers, 10},
};
/* Only where there is such a thing, and there always. */
static const struct known_act tool_acts[] = {{"tool-fails", tool_fails, 10}, {"tool-lies", tool_lies, 15}, {"tool-hangs", tool_hangs, 15}, {"fragments-lost", fragments_lost, 20}};
static const struct known_act ipv6_acts[] = {{"ipv6-route", ipv6_route, 10}};

static void write_world(struct dice *dice) {
  struct sim_script *script = dice->script;
  sim_script_add(script, "lasts %ud", dice->days);
  sim_script_add(script, "calm 6d");
  sim_script_add(script, "world domains %zu", dice->domains);
  sim_script_add(script, "world servers %zu", dice->servers);
  sim_script_add(script, "world signers %zu", dice->signers);
  sim_script_add(script, "world soa-ttl %s", PICK(dice, "1m", "15m", "1h", "1d"));
  sim_script_add(script, "world negative-ttl %s", PICK(dice, "1m", "15m", "1h", "1d"));
  if (roll(dice, 4) == 0) sim_script_add(script, "world signed");
  if (roll(dice, 4) == 0) sim_script_add(script, "world wildcard %s", PICK(dice, "1m", "1h", "1d"));
  sim_script_add(script, "policy rotate-every %s", PICK(dice, "8d", "12d", "20d"));
  sim_script_add(script, "policy ttl %s", PICK(dice, "5m", "1h", "1d"));
  sim_script_add(script, "policy safety %s", PICK(dice, "10m", "10m", "1h"));
  sim_script_add(script, "policy sightings %s", PICK(dice, "1", "2", "3"));
  sim_script_add(script, "policy tombstone %s", PICK(dice, "0s", "1d", "3d"));
  sim_script_add(script, "policy drain %s", PICK(dice, "10m", "1h"));
  sim_script_add(script, "policy queue-lifetime %s", PICK(dice, "12h", "1d", "2d"));
  sim_script_add(script, "policy verify-window %s", PICK(dice, "1h", "1d"));
  sim_script_add(script, "policy private-key %s", PICK(dice, "destroy", "destroy", "archive"));
  sim_script_add(script, "policy standby %s", PICK(dice, "0", "0", "0", "1"));
  if (roll(dice, 4) == 0)
    sim_script_add(script, "run daemon %s", PICK(dice, "1d", "10d"));
  else
    sim_script_add(script, "run every %s for %s", PICK(dice, "1m", "5m", "15m"), PICK(dice, "0s", "1m", "10m"));
}

/* From dice of their own, so that the lives without a calendar stay what they were. Windows are open on each day, and freezes end before the calm. */
static bool write_calendar(struct dice *dice, uint64_t seed) {
  struct sim_script *script = dice->script;
  entropy_seed(&dice->random, seed ^ UINT64_C(0x63616c656e646172));
  const bool has = roll(dice, 4) == 0;
  if (has) {
    sim_script_add(script, "calm 9d");
    sim_script_add(script, "policy time-zone %s", PICK(dice, "none", "Europe/Berlin", "America/St_Johns", "Asia/Tokyo"));
    sim_script_add(script, "policy window-hours %s", PICK(dice, "none", "09:00-16:00", "22:00-04:00", "00:00-12:00"));
    sim_script_add(script, "policy freeze %s", PICK(dice, "none", "2026-02-03..2026-02-07", "02-10", "2026-01-24..2026-01-30,2026-02-08"));
    sim_script_add(script, "policy jitter %s", PICK(dice, "none", "1d", "3d"));
    sim_script_add(script, "policy max-per-run %s", PICK(dice, "none", "1", "2"));
    sim_script_add(script, "policy failure-budget %s", PICK(dice, "none", "0", "1", "50%"));
  }
  return has;
}

/* A world has about a third of all kinds, so that some are seen alone. */
static void roll_acts(struct dice *dice, const struct known_act *known, size_t count, bool always, unsigned days) {
  for (size_t i = 0; i < count; i++) {
    const bool has = always || roll(dice, 3) == 0;
    const unsigned times = days / known[i].days + (roll(dice, known[i].days) < days % known[i].days);
    for (unsigned j = 0; j < times; j++) {
      char at[32];
      snprintf(at, sizeof at, "%ud%uh%um%us", roll(dice, days), roll(dice, 24), roll(dice, 60), roll(dice, 60));
      if (has && wanted(dice, known[i].kind)) known[i].act(dice, at);
    }
  }
}

/* Another way to live, and worlds that are made otherwise. */
static void write_later(struct dice *dice, uint64_t seed) {
  struct sim_script *script = dice->script;
  entropy_seed(&dice->random, seed ^ UINT64_C(0x6c617465725f2e2e));
  if (roll(dice, 3) == 0) sim_script_add(script, "run daemon");
  const unsigned publisher = roll(dice, 8);
  dice->fragments = publisher == 0;
  dice->tool = publisher <= 1;
  if (dice->tool) sim_script_add(script, "world publisher %s", dice->fragments ? "zonefile" : "command");
  if (roll(dice, 6) == 0) sim_script_add(script, "world delegated");
  dice->ipv6 = roll(dice, 4) == 0;
  if (dice->ipv6) sim_script_add(script, "world ipv6");
}

/* ---- what only import can tell: rolled last, again with dice of their own ---- */

static void store_lost(struct dice *dice, const char *at) {
  sim_script_add(dice->script, "at %s store lost %s%s", at, PICK(dice, "", "", "unseen "), PICK(dice, "1m", "1h", "5h", "1d"));
}

/* Import comes when no cache denies the key any more: before, its mail has an excuse. */
static void how_to(struct dice *dice, const char *at) {
  if (dice->fragments || dice->by_hand == SIM_BY_HAND_MAX) return; /* with a zone file, such a record is in the part that is not ours to write */
  sim_script_add(dice->script, "at %s how-to %s server-202601%02u", at, domain_of(dice), 1 + dice->by_hand++);
  sim_script_add(dice->script, "at %ud%uh import %s", (unsigned)strtoul(at, NULL, 10) + 5 + roll(dice, 4), roll(dice, 24), PICK(dice, "1m", "1h", "1d"));
}

static const struct known_act import_acts[] = {{"store-lost", store_lost, 25}, {"how-to", how_to, 20}};

/* Domains that a script served before dkimroll came. */
static void write_take_over(struct dice *dice) {
  const bool has = roll(dice, 6) == 0 && wanted(dice, "how-to") && !dice->fragments;
  for (unsigned i = 2 * (unsigned)dice->domains; has && i > 0; i--)
    sim_script_add(dice->script, "at %us how-to %s server-202601%02u", 1 + roll(dice, 3), domain_of(dice), 1 + dice->by_hand++);
  if (has) sim_script_add(dice->script, "at %s import 1m", PICK(dice, "10s", "10m", "5h", "1d", "6d"));
}

static void write_imports(struct dice *dice, uint64_t seed, unsigned days) {
  entropy_seed(&dice->random, seed ^ UINT64_C(0x696d706f72742e2e));
  write_take_over(dice);
  roll_acts(dice, import_acts, ARRAY_SIZE(import_acts), false, days);
}

void sim_seed_script(uint64_t seed, unsigned days, const char *faults, struct sim_script *ret_script) {
  struct dice dice = {.script = ret_script, .faults = faults, .days = days};
  entropy_seed(&dice.random, seed);
  dice.domains = 1 + roll(&dice, 3);
  dice.servers = 1 + roll(&dice, 4);
  dice.signers = 1 + roll(&dice, 2);
  sim_script_add(ret_script, "seed %llu", (unsigned long long)seed);
  write_world(&dice);
  const struct entropy_seeded random = dice.random;
  const bool has_calendar = write_calendar(&dice, seed);
  const unsigned quiet = has_calendar ? 10 : 7; /* at the end: calm, and what was begun before it */
  write_later(&dice, seed);
  if (days > quiet) {
    roll_acts(&dice, later_acts, ARRAY_SIZE(later_acts), false, days - quiet);
    if (dice.tool) roll_acts(&dice, tool_acts, ARRAY_SIZE(tool_acts), true, days - quiet);
    if (dice.ipv6) roll_acts(&dice, ipv6_acts, ARRAY_SIZE(ipv6_acts), true, days - quiet);
    dice.random = random;
    roll_acts(&dice, acts, ARRAY_SIZE(acts), false, days - quiet);
    write_imports(&dice, seed, days - quiet);
  }
}
