/* The simulator: production code above its seams in a simulated world on a virtual clock. This header is the world as all files of this folder
 * share it; README.md is the manual. Time is true time in milliseconds, which no clock of the world need agree with. */
#ifndef DKIMROLL_TESTS_SIM_H
#define DKIMROLL_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/engine.h"
#include "dkimroll/entropy.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/loop.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/runner_fragment.h"
#include "dkimroll/survey.h"
#include "dkimroll/transport.h"
#include "dkimroll/tsig.h"
#include "sim_disk.h"
#include "sim_files.h"
#include "sim_signer.h"

enum {
  SIM_DOMAINS_MAX = 5,  /* a.test to e.test */
  SIM_SERVERS_MAX = 5,  /* ns1.test (the primary) to ns5.test */
  SIM_SIGNERS_MAX = 2,
  SIM_RESOLVERS = 2, /* 192.0.2.2 and 192.0.2.3 */
  SIM_NAMES_MAX = 4000, /* selectors that ever were, of all domains */
  SIM_WORDS_MAX = 8,
  SIM_BY_HAND_MAX = 16,
  SIM_JOBS_A_DAY = 250, /* of the keeper, for each domain at each signer: steps that fail all day, with every pause at its shortest, take about 150 */
  SIM_EVENTS_A_DAY = 500, /* in the log of the store, for each domain: seeds come to 125 of all domains in a day as a rule, and to 164 behind a clock that was set back by a month */
  SIM_TEXT = 128,
  SIM_LINE = 512,
};

#define SIM_SECOND INT64_C(1000)
#define SIM_MINUTE (60 * SIM_SECOND)
#define SIM_HOUR (60 * SIM_MINUTE)
#define SIM_DAY (24 * SIM_HOUR)
#define SIM_START (INT64_C(1769212800) * SIM_SECOND) /* 2026-01-24 00:00:00 UTC */
#define SIM_SESSION_LONGEST SIM_DAY                      /* no policy of the world lets connections live longer: see drain in sim_seed.c */
#define SIM_LOOKBACK (8 * SIM_DAY)                   /* no TTL of the world is longer, so no cache holds anything older */

struct sim;

/* ---- sim_loop.c: true time, and the clocks of the host ---- */

struct sim_loop;
struct sim_loop *sim_loop_new(void);
void sim_loop_free(struct sim_loop *loop);
struct loop *sim_loop_borrow(struct sim_loop *loop); /* what the process sees */
int64_t sim_loop_now(const struct sim_loop *loop);
/* A timer of the world, which no crash ends. owned: context is freed with the loop if the timer has not fired. */
void sim_loop_at(struct sim_loop *loop, int64_t moment, loop_callback *callback, void *context, bool owned);
/* Lets time pass until moment; false: sim_loop_interrupt came first. */
bool sim_loop_until(struct sim_loop *loop, int64_t moment);
void sim_loop_interrupt(struct sim_loop *loop);
/* The process dies now. */
void sim_loop_stop_process(struct sim_loop *loop);
/* The process ends after that many of its callbacks; 0: it does not. */
void sim_loop_crash_after(struct sim_loop *loop, uint64_t callbacks);
bool sim_loop_crashed(const struct sim_loop *loop); /* and forgets it */
uint64_t sim_loop_callbacks(const struct sim_loop *loop);
/* What the host's clocks say. */
int64_t sim_loop_wall(const struct sim_loop *loop);
int64_t sim_loop_wall_error(const struct sim_loop *loop); /* seconds */
void sim_loop_set_wall_error(struct sim_loop *loop, int64_t seconds);
void sim_loop_set_synchronised(struct sim_loop *loop, bool synchronised);
bool sim_loop_is_synchronised(const struct sim_loop *loop);
void sim_loop_reboot(struct sim_loop *loop);
/* Until then nothing of the process is called, while the world goes on; the clocks of the host do, too. */
void sim_loop_suspend(struct sim_loop *loop, int64_t until);

/* ---- sim_zone.c: what the name servers hold, and what caches may hold of it ---- */

enum {
  SIM_RECORD_OURS = 1,      /* came by an update */
  SIM_RECORD_FOREIGN = 2,   /* of others: must stay */
  SIM_RECORD_TORN = 4,      /* not served: the world took it away */
  SIM_RECORD_TAMPERED = 8,  /* the world changed it, or put something beside it */
  SIM_RECORD_RISEN = 16,    /* came back from an old backup */
};

struct sim_record {
  const char *name, *text; /* of the world's arena; text: content of a TXT, target of an alias */
  const uint8_t *rdata;
  size_t rdata_size;
  uint16_t type;
  uint32_t ttl;
  unsigned flags;
};

/* One state of one zone; never changed once servers have it. */
struct sim_content {
  size_t references;
  uint32_t soa_ttl, minimum;
  unsigned name_servers; /* bits: who is in the NS set */
  bool is_signed;
  size_t count;
  struct sim_record *records;
};

/* A server's copy of a zone since a moment. */
struct sim_era {
  int64_t since;
  struct sim_content *content;
  bool stale;   /* by a fault of the world: what it lacks is not our doing */
  bool serving; /* it is in the NS set */
};

struct sim_copy {
  struct sim_era *eras;
  size_t count, capacity;
};

struct sim_zone {
  char name[16]; /* "a.test" */
  struct sim_copy copies[SIM_SERVERS_MAX];
  uint32_t dynamic_count;
};

struct sim_server {
  char host[32], address[48], address6[48]; /* address6: of a world with both families */
  struct address parsed, parsed6;
  int64_t down_until, refuses_until, servfail_until, truncates_until, contradicts_until, frozen_until;
  int64_t loses_requests_until, loses_replies_until, lags_until;
  unsigned loses_requests, loses_replies; /* percent */
  int64_t lag;                            /* while it lags */
};

struct sim_resolver {
  int64_t down_until, servfail_until;
};

void sim_zones_init(struct sim *sim);
void sim_zones_free(struct sim *sim);
/* Where the record of a selector really is: "s._domainkey.a.test", or behind the DNAME "s.a.keys.test". Returns buffer. */
const char *sim_owner_name(const struct sim *sim, const char *selector, const char *domain, char buffer[DNS_NAME_TEXT_SIZE]);
/* The zone with the records of that domain, and how their names end. */
struct sim_zone *sim_record_zone(struct sim *sim, size_t domain);
const char *sim_record_suffix(const struct sim *sim, size_t domain, char buffer[DNS_NAME_TEXT_SIZE]);
struct sim_zone *sim_zone_find(struct sim *sim, const char *name); /* the zone that the name is in; NULL: none */
const struct sim_content *sim_zone_at(const struct sim_zone *zone, size_t server);
/* A copy of the primary's content, to be changed and given to sim_zone_commit. */
struct sim_content *sim_zone_edit(struct sim_zone *zone);
/* The primary has it from now on, and the secondaries when they get it. */
void sim_zone_commit(struct sim *sim, struct sim_zone *zone, struct sim_content *content);
struct sim_record *sim_content_add(struct sim *sim, struct sim_content *content, const char *name, uint16_t type, uint32_t ttl,
                                   const char *text, unsigned flags);
void sim_content_remove(struct sim_content *content, size_t record);
void sim_server_forget(struct sim *sim, size_t server, int64_t age, int64_t duration);
void sim_primary_forget(struct sim *sim, int64_t age);
void sim_name_servers_set(struct sim *sim, struct sim_zone *zone, unsigned bits);
void sim_servers_resync(struct sim *sim);
const char *sim_text(struct sim *sim, const char *text); /* kept in the arena */

enum sim_cached { SIM_CACHED_GOOD = 0, SIM_CACHED_EXCUSED = 1, SIM_CACHED_BAD = 2 };
/* May any cache that obeys TTLs hold an answer for name at this moment with which a signature of that public key (base64) fails? */
enum sim_cached sim_zone_judge(struct sim *sim, const char *name, const char *public_key, char *why, size_t size);
/* Since when some server of the NS set has not served that key; INT64_MAX: all serve it. */
int64_t sim_zone_wrong_since(struct sim *sim, const char *name, const char *public_key);
/* Does every server of the NS set serve exactly this TXT? */
bool sim_zone_served(struct sim *sim, const char *name, const char *text);

/* ---- sim_dns.c: the wire ---- */

struct sim_answer {
  struct buffer octets;
  bool none; /* nothing comes */
};
/* What the server at that place says to a request; updates take effect. */
void sim_dns_answer(struct sim *sim, int server, const uint8_t *octets, size_t size, bool tcp, struct sim_answer *ret_answer);
enum { SIM_SERVER_PARENT = -1, SIM_SERVER_NOBODY = -2, SIM_SERVER_RESOLVER = -3 /* the first; the next is -4 */ };
int sim_dns_server_at(const struct sim *sim, const struct address *address);
void sim_dns_record_rdata(struct sim *sim, struct sim_record *record);

/* ---- sim_net.c ---- */

struct transport *sim_transport_new(struct sim *sim);

/* ---- sim_keeper.c ---- */

struct keeper *sim_keeper_new(struct sim *sim, const struct keeper_handler *handlers, size_t count);

/* ---- sim_runner.c: a provider's tool, and a primary that includes fragments ---- */

enum { SIM_RUNNER_HANDLERS = 2 };
size_t sim_runner_handlers(struct sim *sim, struct keeper_handler *handlers);
void sim_runner_policy(const struct sim *sim, FILE *file); /* the publishers of the policy */
bool sim_runner_lose_fragments(struct sim *sim);           /* false: there are none in this world */
/* What the manual, and the error of a run, ask of an operator: an empty fragment for each zone that has none. With new: only for zones of which ns1 has no record that would be lost with it. */
void sim_runner_make_fragments(struct sim *sim, bool new);

/* ---- sim_host.c: the process ---- */

void sim_host_init(struct sim *sim);
void sim_host_free(struct sim *sim);
/* One `dkimroll run`, also as a daemon that lives for horizon seconds (TIME_NEVER: until something ends it). */
void sim_host_run(struct sim *sim, int64_t horizon);
/* When the store wants the next run, in true time; SIM_START if now. */
int64_t sim_host_next(struct sim *sim);
void sim_host_revoke(struct sim *sim, const char *domain, const char *selector, unsigned options);
void sim_host_request(struct sim *sim, enum store_request_kind kind, const char *domain, int64_t until, enum hold_scope scope);
struct store *sim_host_store(struct sim *sim); /* borrowed; NULL: it cannot be opened */
void sim_host_close(struct sim *sim);
const char *sim_host_path(struct sim *sim, const char *name, char *buffer, size_t size);

/* What a run works with, for a command; the store is its own. */
struct cli_backends;
int sim_host_backends(struct sim *sim, struct cli_backends *ret_backends, struct error *error);
void sim_host_release_backends(struct sim *sim);
void sim_host_lose_store(struct sim *sim);

/* ---- sim_import.c ---- */

/* `dkimroll import --apply`. Returns its exit status; -1: a run is at work. */
int sim_import(struct sim *sim);
/* An operator stops dkimroll, and after that time imports, again each hour until nothing is left, and starts it; after a day of attempts it may run
 * for a day in between. */
void sim_import_later(struct sim *sim, int64_t delay);
/* Key file, lines and record as the script of a how-to leaves them, at all signers. */
void sim_how_to(struct sim *sim, size_t domain, const char *selector);
/* The key that people made there; NULL: none. */
const struct sim_by_hand *sim_by_hand_find(const struct sim *sim, const char *owner);

/* ---- sim_policy.c ---- */

struct sim_rule {
  char key[24], value[40];
};
bool sim_policy_set(struct sim *sim, const char *key, const char *value);
int64_t sim_policy_seconds(const struct sim *sim, const char *key);
/* Dq + Dver, in milliseconds. */
int64_t sim_policy_window(const struct sim *sim);
void sim_policy_write(struct sim *sim);

/* ---- sim_mail.c ---- */

struct sim_mail_place {
  bool has_signed;
  int64_t tampered_at; /* somebody took its lines out of a table; 0: nobody, or all is well since */
  int64_t mended_at;   /* they are there again, on the disk and in the signer's memory; 0: they are not */
  char selector[SELECTOR_SIZE]; /* of the last signature */
  int64_t selector_since, first_at, last_at;
};
/* Signs a message of every sender at every signer now, on an old or a new connection. */
void sim_mail_pulse(struct sim *sim);
void sim_mail_begin(struct sim *sim);
void sim_mail_domain(struct sim *sim, size_t domain);

/* ---- sim_signer (the filter) ---- */

enum sim_signing { SIM_MAIL_SIGNED = 0, SIM_MAIL_UNSIGNED = 1, SIM_MAIL_TEMPFAILED = 2, SIM_MAIL_DOWN = 3 };
struct sim_signature {
  char selector[SELECTOR_SIZE];
  char public_key[64]; /* base64 */
  int64_t opened;      /* the connection; also where nothing was signed */
};
struct sim_filter; /* sim_filter.c */
void sim_filters_init(struct sim *sim);
void sim_filters_free(struct sim *sim);
enum sim_signing sim_filter_sign(struct sim *sim, size_t signer, const char *domain, struct sim_signature *ret_signature);
/* Do the tables sign for the domain, those on the disk as well as those that the signer has read? */
bool sim_filter_is_whole(struct sim *sim, size_t signer, const char *domain);
const struct sim_signers *sim_filters(struct sim *sim);
int sim_filter_make(struct sim *sim, const struct policy_signer *policy, struct signer **ret_signer, struct error *error);
void sim_filter_restart(struct sim *sim, size_t signer);
void sim_filter_stop(struct sim *sim, size_t signer);
struct sim_signer_faults *sim_filter_faults(struct sim *sim, size_t signer);

/* ---- sim_vandal.c: people who edit tables by hand ---- */

bool sim_tables_foreign(struct sim *sim, size_t signer);
bool sim_tables_drop_lines(struct sim *sim, size_t signer, const char *table, size_t domain, bool excused);
/* People take out lines that stand in the way and are theirs to take out. */
void sim_tables_settle(struct sim *sim);
/* Lines of domains at signers by which they do not sign any more. */
void sim_tables_drop_left(struct sim *sim);
/* Lines of keys that the store does not know, in the SigningTables of domains of which no key is active; but_first: those at the first signer stay. */
void sim_tables_make_room(struct sim *sim, bool but_first);
/* All lines of others in all tables, in their order. Caller frees. */
char *sim_tables_of_others(struct sim *sim);

/* ---- sim_oracle.c ---- */

void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_violate(struct sim *sim, const char *invariant, const char *format, ...) __attribute__((format(printf, 3, 4)));
void sim_oracle_update(struct sim *sim, struct sim_zone *zone, const struct sim_content *before, const struct sim_content *after);
/* A signature with that key; the first one must be of a key whose record was there. */
void sim_oracle_signature(struct sim *sim, const char *owner, const char *public_key);
void sim_oracle_event(struct sim *sim, const struct event *event);
void sim_oracle_key_made(struct sim *sim, const char *path);
void sim_oracle_key_gone(struct sim *sim, const char *path);
void sim_oracle_octets(struct sim *sim, const char *where, const void *octets, size_t size);
void sim_oracle_store(struct sim *sim);
/* One job of the keeper more: a host that does nothing but work, day by day, is a defect however well its mail is. */
void sim_oracle_effort(struct sim *sim);
/* NULL: every lineage is well; else what is wrong. */
const char *sim_oracle_ill(struct sim *sim, const char *domain, char *why, size_t size);

/* ---- sim_orphans.c ---- */

/* Is anything of ours left, in DNS, in tables or in key directories, that belongs to no key which the store knows? */
void sim_orphans_judge(struct sim *sim);

/* ---- sim_emergency.c: `revoke` ---- */

/* An operator asks for the end of a key: options of enum store_request_option. */
void sim_emergency_ask(struct sim *sim, size_t domain, const char *selector, unsigned options);
void sim_emergency_event(struct sim *sim, const struct event *event);
/* A record with the public half of a key that dkimroll knows to be in other hands. */
bool sim_emergency_still_stands(const struct sim *sim, const struct sim_record *record);
/* Whether mail of that key need not verify any more; with unsigned_mail: whether what it signed for may go unsigned. */
bool sim_emergency_waives(struct sim *sim, const char *selector, const char *domain, bool unsigned_mail);

/* ---- sim_actions*.c (what they share is in sim_actions.h), sim_calm.c ---- */

struct sim_action {
  int64_t at; /* true time from the start, milliseconds */
  unsigned line;
  char text[SIM_LINE]; /* without "at TIME" */
};
/* Does it now. false: it means nothing; why says so. */
bool sim_action_do(struct sim *sim, const struct sim_action *action, char *why, size_t size);
void sim_power_cut(struct sim *sim);
void sim_calm(struct sim *sim); /* all faults end, and people put right what people broke */
extern const char *const sim_fault_kinds[];
/* How often there was a fault whose kind begins so. */
uint64_t sim_fault_count(const struct sim *sim, const char *kind);

/* ---- sim_script.c, sim_seed.c ---- */

struct sim_script {
  char **lines; /* owned */
  size_t count, capacity;
};
void sim_script_add(struct sim_script *script, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_script_release(struct sim_script *script);
bool sim_script_read(const char *path, struct sim_script *ret_script);
/* The scenario of a seed. faults: words of sim_fault_kinds, or NULL: all. */
void sim_seed_script(uint64_t seed, unsigned days, const char *faults, struct sim_script *ret_script);

struct sim_options {
  FILE *trace; /* NULL: none */
};
/* Of one day. */
struct sim_tally {
  int64_t day;
  uint64_t today;
};
struct sim_counts {
  uint64_t runs, crashes, mails, verified, excused, rotations, queries, updates, simulated_seconds;
  uint64_t busiest, loudest; /* jobs of the keeper in one day; events in one day */
  uint64_t faults[64]; /* by place in sim_fault_kinds */
};
struct sim_result {
  bool failed; /* violation says why */
  char violation[1024];
  uint64_t digest; /* of the trace */
  struct sim_counts counts;
};
/* Lives through a script. */
void sim_run(const struct sim_script *script, const struct sim_options *options, struct sim_result *ret_result);

struct sim_name { /* one selector's life, as the world saw it */
  const char *name;
  const char *first; /* content of its first record */
  bool ours;
  bool compromised;  /* an operator asked for its end */
  bool ends_at_once; /* even if no other key can sign */
  bool is_known_for_it; /* dkimroll said so */
  bool has_signed;
};

/* A key that people made by the script of a how-to: it is theirs until import has taken it over. */
struct sim_by_hand {
  size_t domain;
  char selector[SELECTOR_SIZE];
  int64_t made_at;
  bool taken_over;
};

struct sim_secret {
  uint8_t seed[32];
  char text[48]; /* base64 of the last octets of the file */
  char path[256];
};

struct sim {
  struct sim_options options;
  struct sim_result *result;
  struct sim_loop *clock;
  struct loop *loop;
  struct entropy_seeded world_random, process_random;
  uint64_t seed;
  /* the shape of the world */
  size_t domain_count, server_count, signer_count;
  int64_t end, calm; /* true moments */
  int64_t run_every, horizon;
  bool daemon;
  bool stays;         /* a daemon without an end, which requests wake */
  int64_t away_until; /* nobody starts dkimroll before */
  bool import_waits;  /* and until import has succeeded */
  bool is_importing;
  unsigned imports_failed; /* one after the other */
  bool store_goes;    /* with the process that is being ended */
  bool has_imported;  /* or will have: there is something that only import can tell */
  bool is_signed;
  bool is_delegated; /* _domainkey of every domain is a DNAME into one zone, of ours: keys.test */
  bool has_ipv6; /* name servers have addresses of both families */
  uint32_t soa_ttl, minimum;
  char wildcard[24]; /* TTL of a wildcard TXT; empty: none */
  char publisher[16]; /* command, zonefile; empty: rfc2136 */
  bool over; /* ends at once */
  bool dirty; /* something is new for the next run */
  bool is_calm;
  /* DNS */
  struct sim_zone zones[SIM_DOMAINS_MAX + 1]; /* of the domains, and the one that holds the records of a delegated world */
  size_t zone_count;
  struct sim_server servers[SIM_SERVERS_MAX];
  struct sim_resolver resolvers[SIM_RESOLVERS];
  int64_t receivers_defer_until, ipv6_routed_until;
  struct tsig_key tsig;
  int64_t rejects_until, primary_clock_until, primary_clock_error;
  struct sim_name names[SIM_NAMES_MAX];
  unsigned whole_host; /* domains (bits) of which all keys were said to be compromised */
  size_t name_count;
  char **arena;
  size_t arena_count, arena_capacity;
  /* the host */
  char root[64];
  struct sim_rule rules[32];
  size_t rule_count;
  bool present[SIM_DOMAINS_MAX];
  unsigned domain_signers[SIM_DOMAINS_MAX]; /* bits */
  uint64_t policy_version;
  bool policy_changed; /* a daemon is to be restarted */
  struct engine *engine;
  struct transport *transport;
  struct key_roots key_roots;
  struct opendkim_roots signer_roots;
  struct keeper_handler handlers[KEY_JOBS_COUNT + OPENDKIM_JOBS_COUNT + SURVEY_JOBS_COUNT];
  uint64_t crash_next; /* callbacks of the next run before it dies */
  int64_t keeper_fails_until, keeper_hangs_until;
  unsigned keeper_fails, keeper_hangs; /* percent */
  bool keeper_dies, keeper_dead;
  /* signing */
  struct sim_filter *filters[SIM_SIGNERS_MAX];
  struct sim_signer *signer_items[SIM_SIGNERS_MAX];
  struct sim_signers signers;
  unsigned signer_downs[SIM_SIGNERS_MAX]; /* grows with each stop, so that an old start does not end a new stop */
  unsigned foreign_lines[SIM_SIGNERS_MAX]; /* that people added since */
  struct connector *connector;
  struct sim_disk disk;
  struct sim_files files; /* what is in root */
  bool worker_is_killed;  /* when files.power_lasts is over; else the power goes */
  bool power_is_gone; /* the process that runs dies of it */
  int64_t disk_full_until, disk_write_until, disk_sync_until;
  struct store *store; /* kept from run to run, opened anew now and then and after each death */
  struct policy *policy; /* as compiled last */
  uint64_t policy_loaded; /* its version */
  struct keeper *keeper, *runner;
  struct observer *observer; /* of the run that goes on */
  struct runner_zonefiles zonefiles;
  struct keeper_handler runner_handlers[SIM_RUNNER_HANDLERS];
  int64_t tool_fails_until, tool_lies_until, tool_hangs_until;
  unsigned tool_fails, tool_lies, tool_hangs; /* percent */
  struct sim_mail_place places[SIM_SIGNERS_MAX][SIM_DOMAINS_MAX];
  struct sim_by_hand by_hand[SIM_BY_HAND_MAX];
  size_t by_hand_count;
  struct sim_secret *secrets;
  size_t secret_count;
  struct sim_action *actions;
  size_t action_count;
  bool tables_edited; /* by somebody else, once at least */
  struct sim_tally jobs, events;
};

#define SIM_RANDOM(sim, limit) entropy_below(&(sim)->world_random.entropy, (uint32_t)(limit))

#endif
