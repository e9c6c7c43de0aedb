/* `dkimroll check` against a scripted world: name servers, a primary, a signer and a keeper that do what a test wants. What they do for real is the
 * business of their own tests and of tests/integration. */
#include "cli_desk.h"

#include <signal.h>
#include <sys/file.h>

#include "dkimroll/check.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/record.h"

enum { CALLS_MAX = 16, NAMES_MAX = 5000 };

/* What the world does, and what was asked of it. */
struct scripted_world {
  struct loop *loop;
  struct key_roots roots;
  struct keeper_handler handlers[KEY_JOBS_COUNT];
  struct observer observer;
  struct publisher publisher;
  struct signer signer;
  struct entropy_seeded entropy;
  bool synchronised, attests;
  const char *one_zone;        /* all domains lie in it; NULL: each in a zone of its own */
  enum observe_verdict second; /* of ns2 at its IPv4 address; 0: right */
  enum observe_verdict third;  /* of ns2 at its IPv6 address; 0: there is none */
  int64_t wildcard_ttl;
  bool no_zone;
  bool interrupt_survey, interrupt_add;
  int add_code, delete_code, publisher_code, signer_code, item_code, proof_code;
  /* Calls. */
  char observed[NAMES_MAX][DNS_NAME_TEXT_SIZE];
  char added[NAMES_MAX][DNS_NAME_TEXT_SIZE];
  char deleted[NAMES_MAX][DNS_NAME_TEXT_SIZE];
  size_t observed_count, added_count, deleted_count, checked_count, proved_count;
  char senders[256]; /* of the last item that was checked */
  char proved[256];  /* the last selector that was proved */
};
static struct scripted_world *the_world; /* the wiring's functions have no context */

/* Ends a call from the loop, as the contract wants. */
struct call {
  void (*end)(struct call *call);
  observe_done *observed;
  publisher_done *published;
  signer_done *signed_by;
  void *context;
  const struct observe_item *observe_items;
  const struct publish_item *publish_items;
  size_t count;
  bool whole;
};

static void call_back(void *context) {
  CLEANUP_FREE struct call *call = context;
  call->end(call);
}

static void call_later(const struct call *call) {
  struct call *copy = malloc(sizeof *copy);
  assert_non_null(copy);
  *copy = *call;
  assert_int_equal(loop_at(the_world->loop, loop_boottime(the_world->loop) + 10, call_back, copy, NULL), 0);
}

static void set_failure(struct error *error, int code, const char *what) {
  if (!code) return;
  error_set(error, code, "%s", what);
  error_remedy(error, "the remedy of that");
}

/* ---- observer ---- */

static void fill_server(struct observe_server *server, const char *host, const char *address,
                        enum observe_verdict verdict) {
  *server = (struct observe_server){
      .verdict = verdict ? verdict : OBSERVE_RIGHT, .ttl = the_world->wildcard_ttl, .ttl_negative = 300};
  text_copy(server->host, sizeof server->host, host);
  text_copy(server->address, sizeof server->address, address);
  text_copy(server->answer, sizeof server->answer, verdict == OBSERVE_SILENT ? "no answer in 6 s" : "NXDOMAIN");
}

static void end_survey(struct call *call) {
  struct observe_result *results = calloc(call->count, sizeof *results);
  struct observe_server(*servers)[3] = calloc(call->count, sizeof *servers);
  assert_true(results && servers);
  for (size_t i = 0; i < call->count; i++) {
    const char *name = call->observe_items[i].name;
    if (the_world->no_zone) set_failure(&results[i].error, ERROR_NOT_FOUND, "no zone holds that name");
    text_copy(results[i].zone, sizeof results[i].zone,
              the_world->one_zone ? the_world->one_zone : strstr(name, "._domainkey.") + strlen("._domainkey."));
    text_copy(results[i].owner, sizeof results[i].owner, name);
    results[i].servers = servers[i];
    results[i].server_count = the_world->third ? 3 : 2;
    results[i].free = true;
    fill_server(&servers[i][0], "ns1.example.net", "192.0.2.1:53", 0);
    fill_server(&servers[i][1], "ns2.example.net", "192.0.2.2:53", the_world->second);
    fill_server(&servers[i][2], "ns2.example.net", "[2001:db8::2]:53", the_world->third);
  }
  call->observed(call->context, results, call->count);
  free(servers);
  free(results);
}

static int observe_start(struct observer *observer, enum observe_kind kind, const struct observe_item *items,
                         size_t count, int64_t deadline, observe_done *done, void *context,
                         struct observe_operation **ret_operation, struct error *error) {
  (void)error;
  assert_int_equal(kind, OBSERVE_SURVEY);
  assert_in_range(count, 1, OBSERVE_ITEMS_MAX);
  assert_true(deadline <= loop_boottime(the_world->loop) + CLI_CHECK_SECONDS * 1000);
  for (size_t i = 0; i < count; i++)
    text_copy(the_world->observed[the_world->observed_count++], DNS_NAME_TEXT_SIZE, items[i].name);
  call_later(
      &(struct call){.end = end_survey, .observed = done, .context = context, .observe_items = items, .count = count});
  if (the_world->interrupt_survey) raise(SIGINT);
  *ret_operation = (struct observe_operation *)observer;
  return 0;
}
static void observe_nothing(struct observer *observer, struct observe_operation *operation) {
  (void)observer;
  (void)operation;
  fail_msg("nothing is to be cancelled");
}
static const struct observer_ops observer_ops = {.start = observe_start, .cancel = observe_nothing};

/* ---- publisher ---- */

static void end_publish(struct call *call) {
  struct publish_result *results = calloc(call->count, sizeof *results);
  assert_non_null(results);
  for (size_t i = 0; i < call->count; i++) {
    const bool adds = call->publish_items[i].change == PUBLISH_ADD;
    set_failure(&results[i].error, adds ? the_world->add_code : the_world->delete_code,
                adds ? "adding failed" : "deleting failed");
    results[i].attested = the_world->attests;
    text_copy(results[i].primary_server, sizeof results[i].primary_server, "192.0.2.53:5353");
  }
  call->published(call->context, results, call->count);
  free(results);
}

static int publish_start(struct publisher *publisher, const struct publish_item *items, size_t count, int64_t deadline,
                         publisher_done *done, void *context, struct publish_operation **ret_operation,
                         struct error *error) {
  (void)error;
  assert_true(deadline <= loop_boottime(the_world->loop) + CLI_CHECK_SECONDS * 1000);
  for (size_t i = 0; i < count; i++) {
    const bool adds = items[i].change == PUBLISH_ADD;
    if (adds) text_copy(the_world->added[the_world->added_count++], DNS_NAME_TEXT_SIZE, items[i].name);
    if (!adds) {
      assert_int_equal(items[i].change, PUBLISH_DELETE);
      text_copy(the_world->deleted[the_world->deleted_count++], DNS_NAME_TEXT_SIZE, items[i].name);
    }
    assert_string_equal(adds ? items[i].record : items[i].record_before, CHECK_RECORD);
    if (adds && the_world->interrupt_add) raise(SIGINT);
  }
  call_later(&(struct call){
      .end = end_publish, .published = done, .context = context, .publish_items = items, .count = count});
  *ret_operation = (struct publish_operation *)publisher;
  return 0;
}
static void publish_nothing(struct publisher *publisher, struct publish_operation *operation) {
  (void)publisher;
  (void)operation;
  fail_msg("nothing is to be cancelled");
}
static void publisher_stays(struct publisher *publisher) {
  (void)publisher;
}
static const struct publisher_ops publisher_ops = {
    .start = publish_start, .cancel = publish_nothing, .destroy = publisher_stays};

/* ---- signer ---- */

static void end_signing(struct call *call) {
  struct signer_result *results = calloc(call->count + 1, sizeof *results);
  assert_non_null(results);
  for (size_t i = 0; i < call->count; i++)
    set_failure(&results[i].error, call->whole ? the_world->item_code : the_world->proof_code,
                call->whole ? "a foreign line matches first" : "it signs with another key");
  if (call->whole) set_failure(&results[call->count].error, the_world->signer_code, "KeyTable cannot be written");
  call->signed_by(call->context, results, call->count + call->whole);
  free(results);
}

static int signer_check_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                              signer_done *done, void *context, struct signer_operation **ret_operation,
                              struct error *error) {
  (void)deadline;
  (void)error;
  the_world->checked_count += count;
  assert_int_equal(items[count - 1].sender_count, 1);
  text_copy(the_world->senders, sizeof the_world->senders, items[count - 1].senders[0]);
  call_later(&(struct call){.end = end_signing, .signed_by = done, .context = context, .count = count, .whole = true});
  *ret_operation = (struct signer_operation *)signer;
  return 0;
}
static int signer_prove_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                              signer_done *done, void *context, struct signer_operation **ret_operation,
                              struct error *error) {
  (void)deadline;
  (void)error;
  the_world->proved_count += count;
  text_copy(the_world->proved, sizeof the_world->proved, items[count - 1].selector);
  call_later(&(struct call){.end = end_signing, .signed_by = done, .context = context, .count = count});
  *ret_operation = (struct signer_operation *)signer;
  return 0;
}
static void signer_stays(struct signer *signer) {
  (void)signer;
}
static const struct signer_ops signer_ops = {
    .prove = signer_prove_start, .check = signer_check_start, .destroy = signer_stays};

/* ---- wiring ---- */

static int make_publisher(void *context, const struct policy_publisher *policy, struct publisher **ret_publisher,
                          struct error *error) {
  (void)context;
  (void)policy;
  if (the_world->publisher_code) return error_set(error, the_world->publisher_code, "/k/tsig.key: others may read it");
  *ret_publisher = &the_world->publisher;
  return 0;
}
static int make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer,
                       struct error *error) {
  (void)context;
  (void)policy;
  (void)error;
  *ret_signer = &the_world->signer;
  return 0;
}
static int start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count,
                        int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  (void)signers;
  (void)signer_count;
  for (size_t i = 0; i < policy->signer_count; i++)
    assert_int_equal(key_roots_add(&the_world->roots, policy->signers[i].key_directory, error), 0);
  *ret_descriptor = -1;
  *ret_pid = -1;
  return 0;
}
static int make_backends(int descriptor, pid_t pid, struct cli_backends *ret_backends, struct error *error) {
  struct clock_reading start;
  (void)descriptor;
  (void)pid;
  clock_read(&start);
  start.synchronised = the_world->synchronised;
  assert_int_equal(loop_virtual_new(&start, &the_world->loop, error), 0);
  *ret_backends = (struct cli_backends){.loop = the_world->loop,
                                        .observer = &the_world->observer,
                                        .entropy = &the_world->entropy.entropy,
                                        .factory = {make_publisher, make_signer, NULL}};
  const size_t count = key_jobs_handlers(&the_world->roots, the_world->handlers);
  return keeper_direct_new(the_world->loop, the_world->handlers, count, &ret_backends->keeper, error);
}
static void release_backends(struct cli_backends *backends) {
  keeper_destroy(backends->keeper);
  loop_destroy(backends->loop);
  key_roots_release(&the_world->roots);
}

/* The desk's policy with keys in its own folder, signed updates and what a test adds. */
static void write_policy(struct desk *desk, const char *domains) {
  CLEANUP_FREE char *text = text_format("state: %s/state/state.db\n"
                                        "policies: {standard: {keys: {main: {algorithm: ed25519}}}}\n"
                                        "publishers: {primary: {tsig-file: /k/tsig.key}, unsigned: {}}\n"
                                        "signers: {local: {key-table: /k/KeyTable, signing-table: "
                                        "\"refile:/k/SigningTable\", key-directory: %s/keys/%%d, "
                                        "owner: root, milter: \"unix:/k/sock\"}}\n"
                                        "domain-defaults: {policy: standard, publisher: primary, signers: [local]}\n"
                                        "domains:\n%s",
                                        desk->folder.path, desk->folder.path, domains);
  assert_non_null(text);
  workplace_write(desk->policy, text, 0644);
}

static void world_make(struct scripted_world *world, struct desk *desk, const char *domains) {
  *desk = (struct desk){.wiring = {.open_store = store_sqlite_open,
                                  .start_keeper = start_keeper,
                                  .make_backends = make_backends,
                                  .release_backends = release_backends}};
  struct clock_reading reading;
  clock_read(&reading);
  desk->now = reading.wall;
  /* Not below /tmp, which everybody may write to: no signer would read keys there. */
  workplace_make(&desk->folder, "/run");
  desk->policy = workplace_path(&desk->folder, "policy.yaml");
  desk->state = workplace_path(&desk->folder, "state/state.db");
  CLEANUP_FREE char *state = workplace_path(&desk->folder, "state");
  assert_int_equal(mkdir(state, 0700), 0);
  write_policy(desk, domains);
  *world = (struct scripted_world){.observer = {&observer_ops},
                                   .publisher = {&publisher_ops},
                                   .signer = {&signer_ops},
                                   .attests = true,
                                   .wildcard_ttl = -1};
  entropy_seed(&world->entropy, 7);
  the_world = world;
}

static struct scripted_world world;
static const char TWO[] = "  example.com:\n  example.org:\n";

/* The private key's file for a key that signs; *context (bool): its record belongs to it. */
static void make_file(struct lineage *lineage, const struct desk *desk, void *context) {
  CLEANUP(keypair_public_release) struct keypair_public made = {0};
  const struct file_rights rights = {.owner = 0, .group = 0, .mode = 0600};
  struct error error = {0};
  desk_live(lineage, desk, NULL);
  struct key *key = lineage_active_key(lineage);
  assert_non_null(key);
  if (keypair_generate(KEY_ALGORITHM_ED25519, 256, key->placements[0].key_path, &rights, &made, &error))
    fail_msg("%s", error.message);
  if (!*(bool *)context) return;
  free(key->record);
  assert_int_equal(record_build(made.algorithm, made.public_key, made.public_key_size, &key->record, &error), 0);
}

static void make_active(struct desk *desk, const char *domain, bool matching) {
  desk_sync(desk);
  desk_edit(desk, domain, NULL, make_file, &matching);
}

static void assert_verdict(const struct desk *desk, const char *verdict) {
  CLEANUP_FREE char *line = text_format("\n%s\n", verdict);
  if (!text_ends(desk->out, line)) fail_msg("the last line is not \"%s\" in:\n%s\n%s", verdict, desk->out, desk->err);
}

static void test_check__all_right(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_verdict(&desk, "All right: a rotation can run.");
  assert_int_equal(world.observed_count, 2);
  assert_int_equal(world.added_count, 2);
  assert_int_equal(world.deleted_count, 2);
  assert_string_equal(world.added[0], world.deleted[0]);
  assert_string_equal(world.added[1], world.deleted[1]);
  assert_true(text_starts(world.added[0], "dkimroll-check-"));
  assert_true(text_ends(world.added[0], "._domainkey.example.com"));
  assert_int_equal(strcspn(world.added[0] + strlen("dkimroll-check-"), "."), 12);
  assert_contains(desk.out, "example.com and 1 other: a scratch record was added, read back and deleted again");
  assert_contains(desk.out, "2 of 2 servers answer: ns1.example.net (192.0.2.1:53), ns2.example.net (192.0.2.2:53)");
  assert_contains(desk.out, "a signed reply of a primary agrees with it");
  assert_contains(desk.out, "example.com and 1 other: no key of it signs yet");
  assert_string_equal(world.senders, "*@example.org");
  assert_int_equal(world.proved_count, 0);
  assert_lacks(desk.out, "FAILED");
}

static void test_check__changes_nothing_on_disk(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_int_equal(access(desk.state, F_OK), -1);
  CLEANUP_FREE char *keys = workplace_path(&desk.folder, "keys");
  assert_int_equal(access(keys, F_OK), -1);
  CLEANUP_FREE char *folder = workplace_path(&desk.folder, "state");
  assert_int_equal(rmdir(folder), 0); /* it is empty */
}

static void test_check__works_while_somebody_else_executes(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  struct error error = {0};
  world_make(&world, &desk, "  example.com:\n");
  desk_sync(&desk);
  struct store *store = desk_open_store(&desk);
  assert_int_equal(store->ops->lease(store, "dkimroll daemon", desk.now, &error), 0);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  store_close(store);
}

static void test_check__a_broken_policy_ends_it_at_once(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com: {policy: none}\n");
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_CONFIG);
  assert_contains(desk.err, "policy.yaml:");
  assert_verdict(&desk, "NOT all right: 1 failure, 0 warnings.");
  assert_int_equal(world.observed_count, 0);
}

static void test_check__an_operand_restricts_it(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  assert_int_equal(desk_run(&desk, cli_command_check, DOMAINS("Example.ORG", "example.org.")), EX_OK);
  assert_int_equal(world.observed_count, 1);
  assert_int_equal(world.checked_count, 1);
  assert_true(text_ends(world.added[0], ".example.org"));
  assert_lacks(desk.out, "example.com");
}

static void test_check__an_operand_that_is_not_in_the_policy_is_refused(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  assert_int_equal(desk_run(&desk, cli_command_check, DOMAINS("exampel.org")), EX_NOINPUT);
  assert_contains(desk.err, "exampel.org is not in the policy");
  assert_contains(desk.err, "did you mean example.org?");
  assert_int_equal(world.observed_count, 0);
}

static void test_check__a_zone_is_told_once_but_every_domain_has_its_own_scratch_record(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  a.example.net:\n  b.example.net:\n  c.example.net:\n");
  world.one_zone = "example.net";
  world.second = OBSERVE_SILENT;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(
      desk.out,
      "  FAILED   example.net: ns2.example.net (192.0.2.2:53) does not answer for the zone: no answer in 6 s\n");
  assert_int_equal(world.added_count, 3);
  assert_contains(desk.out, "a.example.net and 2 others: a scratch record was added");
  assert_verdict(&desk, "NOT all right: 1 failure, 0 warnings.");
}

static void test_check__no_route_is_a_warning_if_the_same_server_answers_elsewhere(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\n");
  world.third = OBSERVE_NO_ROUTE;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "no route from here to ns2.example.net ([2001:db8::2]:53); it counts as right");
  assert_verdict(&desk, "A rotation can run; 1 warning.");
  world.second = OBSERVE_NO_ROUTE;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "so nobody can tell what it serves");
}

static void test_check__a_wildcard_is_warned_of(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\n");
  world.wildcard_ttl = DAY;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "a wildcard gives a TXT to every name below it, with a TTL of 1d");
}

static void test_check__a_zone_that_nobody_knows_fails(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\n");
  world.no_zone = true;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "FAILED   example.com: no zone holds that name\n           remedy: the remedy of that\n");
  assert_int_equal(world.added_count, 0);
}

static void test_check__an_update_that_is_refused_leaves_nothing_to_delete(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  world.add_code = ERROR_REFUSED;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "FAILED   example.com and 1 other: adding failed\n           remedy: the remedy of that\n");
  assert_int_equal(world.deleted_count, 0);
}

static void test_check__what_may_have_got_there_is_deleted(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  world.add_code = ERROR_TIMEOUT;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_TEMPFAIL);
  assert_int_equal(world.deleted_count, 2);
  assert_lacks(desk.out, "was added, read back");
}

static void test_check__a_record_that_is_left_behind_is_named_with_how_to_delete_it(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\n");
  world.delete_code = ERROR_TIMEOUT;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_TEMPFAIL);
  CLEANUP_FREE char *finding =
      text_format("the scratch record %s could not be deleted: deleting failed", world.added[0]);
  assert_contains(desk.out, finding);
  CLEANUP_FREE char *remedy = text_format(
      "printf 'server 192.0.2.53 5353\\nzone example.com\\nupdate delete %s TXT\\nsend\\n' | nsupdate -k /k/tsig.key\n",
      world.added[0]);
  assert_contains(desk.out, remedy);
}

static void test_check__a_bad_tsig_file_stops_only_its_publisher(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\n");
  world.publisher_code = ERROR_PERMISSION;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_NOPERM);
  assert_contains(desk.out, "updates by publisher primary\n  FAILED   /k/tsig.key: others may read it\n");
  assert_int_equal(world.added_count, 0);
  assert_int_equal(world.checked_count, 1);
  assert_contains(desk.out, "2 of 2 servers answer");
}

static void test_check__a_calendar_that_leaves_too_little_room_is_warned_of(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\nfreeze: \"2020-01-01..2098-12-31\"\nmax-per-run: 5\n");
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "policy standard: keys may take over from 2099-01-01 00:00:00 UTC");
  assert_contains(desk.out, "to 2099-01-01 00:00:00 UTC no key takes over, so that some of 90d live up to ");
  assert_contains(desk.out, "policy standard: within 90d window, freezes and max-per-run have room for 0 of 1 rotations");
  assert_contains(desk.out, "A rotation can run; ");
}

static void test_check__a_calendar_with_room_is_told_and_no_warning(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\nfreeze: \"2020-01-01\"\nmax-per-run: 5\n");
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "policy standard: keys may take over now");
  assert_null(strstr(desk.out, "no key takes over"));
  assert_null(strstr(desk.out, "have room for"));
}

static void test_check__unsigned_updates_are_warned_of_and_attest_no_clock(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com: {publisher: unsigned}\n");
  world.attests = false;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_CONFIG);
  assert_contains(desk.out, "its updates are not signed");
  assert_contains(desk.out, "clock\n  FAILED   nothing attests it");
  world.synchronised = true;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "clock\n  ok       the kernel says that it is synchronised");
}

static void test_check__a_signer_that_is_not_ready_is_told_once_and_not_proved(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  make_active(&desk, "example.com", true);
  world.signer_code = world.item_code = ERROR_PERMISSION;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_NOPERM);
  assert_contains(desk.out, "signer local\n  FAILED   KeyTable cannot be written\n");
  assert_contains(desk.out, "FAILED   example.com and 1 other: a foreign line matches first");
  assert_int_equal(world.proved_count, 0);
}

static void test_check__a_line_of_ones_own_leads_to_import_and_is_no_failure(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  world.item_code = ERROR_CONFLICT;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "WARNING  example.com and 1 other: a line of your own signs for it: a foreign line matches first");
  assert_contains(desk.out, "remedy: run `dkimroll import`");
  assert_contains(desk.out, "A rotation can run; ");
  /* Where dkimroll's own key should sign, it is one. */
  make_active(&desk, "example.com", true);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "FAILED   example.com: a foreign line matches first");
}

static void test_check__the_key_that_signs_is_proved(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  make_active(&desk, "example.org", true);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_int_equal(world.proved_count, 1);
  assert_true(text_starts(world.proved, "server-"));
  assert_contains(desk.out, "example.org: a message of each sender was signed by the active key");
  assert_contains(desk.out, "example.com: no key of it signs yet");
  assert_contains(desk.out, "example.org: the private key belongs to the record");
  world.proof_code = ERROR_PROOF;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "FAILED   example.org: it signs with another key");
}

static void test_check__a_private_key_that_was_replaced_fails(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\n");
  make_active(&desk, "example.com", false);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "does not belong to the record of server-");
}

static void test_check__a_key_directory_that_everybody_may_write_to_fails(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\n");
  CLEANUP_FREE char *keys = workplace_path(&desk.folder, "keys");
  assert_int_equal(mkdir(keys, 0755), 0);
  assert_int_equal(chmod(keys, 0777), 0);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_NOPERM);
  CLEANUP_FREE char *remedy = text_format("chmod o-w %s", keys);
  assert_contains(desk.out, remedy);
}

static void test_check__a_state_directory_that_cannot_be_fails(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, "  example.com:\n");
  CLEANUP_FREE char *folder = workplace_path(&desk.folder, "state");
  assert_int_equal(rmdir(folder), 0);
  workplace_write(folder, "a file", 0644);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_NOPERM);
  assert_contains(desk.out, "state\n  FAILED   no file can be made in ");
}

static void test_check__interrupted_before_anything_was_added_it_adds_nothing(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  world.interrupt_survey = true;
  desk_run(&desk, cli_command_check, NULL);
  assert_int_equal(world.added_count, 0);
  assert_contains(desk.err, "ending");
}

static void test_check__interrupted_afterwards_it_still_deletes(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&world, &desk, TWO);
  world.interrupt_add = true;
  desk_run(&desk, cli_command_check, NULL);
  assert_int_equal(world.added_count, 2);
  assert_int_equal(world.deleted_count, 2);
}

static void test_check__more_domains_than_one_round_takes_are_not_passed_over_in_silence(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  struct buffer domains = BUFFER_WITH_MAXIMUM(1 << 20);
  for (unsigned i = 0; i <= CHECK_DOMAINS_MAX; i++) buffer_format(&domains, "  d%u.example:\n", i);
  world_make(&world, &desk, (char *)domains.data);
  buffer_release(&domains);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "only the first 2000 of 2001 domains are checked at once");
  assert_int_equal(world.added_count, CHECK_DOMAINS_MAX);
  assert_int_equal(world.deleted_count, CHECK_DOMAINS_MAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_check__all_right),
      cmocka_unit_test(test_check__changes_nothing_on_disk),
      cmocka_unit_test(test_check__works_while_somebody_else_executes),
      cmocka_unit_test(test_check__a_broken_policy_ends_it_at_once),
      cmocka_unit_test(test_check__an_operand_restricts_it),
      cmocka_unit_test(test_check__an_operand_that_is_not_in_the_policy_is_refused),
      cmocka_unit_test(test_check__a_zone_is_told_once_but_every_domain_has_its_own_scratch_record),
      cmocka_unit_test(test_check__no_route_is_a_warning_if_the_same_server_answers_elsewhere),
      cmocka_unit_test(test_check__a_wildcard_is_warned_of),
      cmocka_unit_test(test_check__a_zone_that_nobody_knows_fails),
      cmocka_unit_test(test_check__an_update_that_is_refused_leaves_nothing_to_delete),
      cmocka_unit_test(test_check__what_may_have_got_there_is_deleted),
      cmocka_unit_test(test_check__a_record_that_is_left_behind_is_named_with_how_to_delete_it),
      cmocka_unit_test(test_check__a_bad_tsig_file_stops_only_its_publisher),
      cmocka_unit_test(test_check__a_calendar_that_leaves_too_little_room_is_warned_of),
      cmocka_unit_test(test_check__a_calendar_with_room_is_told_and_no_warning),
      cmocka_unit_test(test_check__unsigned_updates_are_warned_of_and_attest_no_clock),
      cmocka_unit_test(test_check__a_signer_that_is_not_ready_is_told_once_and_not_proved),
      cmocka_unit_test(test_check__a_line_of_ones_own_leads_to_import_and_is_no_failure),
      cmocka_unit_test(test_check__the_key_that_signs_is_proved),
      cmocka_unit_test(test_check__a_private_key_that_was_replaced_fails),
      cmocka_unit_test(test_check__a_key_directory_that_everybody_may_write_to_fails),
      cmocka_unit_test(test_check__a_state_directory_that_cannot_be_fails),
      cmocka_unit_test(test_check__interrupted_before_anything_was_added_it_adds_nothing),
      cmocka_unit_test(test_check__interrupted_afterwards_it_still_deletes),
      cmocka_unit_test(test_check__more_domains_than_one_round_takes_are_not_passed_over_in_silence),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
