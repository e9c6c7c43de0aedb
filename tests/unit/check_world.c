#include "check_world.h"

#include <signal.h>

#include "dkimroll/record.h"

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
  const struct signer_item *signer_items;
  size_t count;
  struct loop_source *timer;
};

static void call_back(void *context) {
  CLEANUP_FREE struct call *call = context;
  call->end(call);
}

/* The call is the operation; NULL: see error. */
static struct call *call_later(const struct call *call, struct error *error) {
  struct call *copy = malloc(sizeof *copy);
  assert_non_null(copy);
  *copy = *call;
  const int result = loop_at(the_world->loop, loop_boottime(the_world->loop) + 10, call_back, copy, &copy->timer);
  if (result) {
    free(copy);
    error_set(error, result, "the event loop takes no timer");
    return NULL;
  }
  return copy;
}

/* A check that goes to its end cancels nothing. */
static void cancel(void *operation) {
  struct call *call = operation;
  if (!the_world->may_cancel) fail_msg("nothing is to be cancelled");
  loop_cancel(the_world->loop, &call->timer);
  free(call);
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

/* Every server that is right serves the record that is looked for; a survey looks for none. */
static void serve(struct observe_server *servers, size_t count, const char *record) {
  for (size_t i = 0; record && i < count; i++) {
    const char *served = servers[i].verdict == OBSERVE_RIGHT ? record : i == 1 ? the_world->second_serves : NULL;
    if (!served) continue;
    servers[i].served = served;
    servers[i].served_size = strlen(served);
    text_copy(servers[i].answer, sizeof servers[i].answer, served);
  }
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
    results[i].server_count = the_world->no_zone ? 0 : the_world->third ? 3 : 2;
    results[i].free = true;
    fill_server(&servers[i][0], "ns1.example.net", "192.0.2.1:53", 0);
    fill_server(&servers[i][1], "ns2.example.net", "192.0.2.2:53", the_world->second);
    fill_server(&servers[i][2], "ns2.example.net", "[2001:db8::2]:53", the_world->third);
    serve(servers[i], results[i].server_count, call->observe_items[i].record);
  }
  call->observed(call->context, results, call->count);
  free(servers);
  free(results);
}

static int observe_start(struct observer *observer, enum observe_kind kind, const struct observe_item *items,
                         size_t count, int64_t deadline, observe_done *done, void *context,
                         struct observe_operation **ret_operation, struct error *error) {
  (void)observer;
  assert_true(kind == OBSERVE_PRESENT || (kind == OBSERVE_SURVEY && !the_world->record));
  assert_in_range(count, 1, OBSERVE_ITEMS_MAX);
  assert_true(deadline <= loop_boottime(the_world->loop) + the_world->seconds * 1000);
  the_world->rounds++;
  for (size_t i = 0; i < count; i++) {
    if (the_world->record) assert_string_equal(items[i].record, the_world->record);
    text_copy(the_world->observed[the_world->observed_count++], DNS_NAME_TEXT_SIZE, items[i].name);
  }
  if (the_world->interrupt_survey) raise(SIGINT);
  struct call *call = call_later(&(struct call){.end = end_survey, .observed = done, .context = context, .observe_items = items, .count = count}, error);
  *ret_operation = (struct observe_operation *)call;
  return call ? 0 : error->code;
}
static void observe_cancel(struct observer *observer, struct observe_operation *operation) {
  (void)observer;
  cancel(operation);
}
static const struct observer_ops observer_ops = {.start = observe_start, .cancel = observe_cancel};

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
  (void)publisher;
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
  struct call *call = call_later(&(struct call){.end = end_publish, .published = done, .context = context, .publish_items = items, .count = count}, error);
  *ret_operation = (struct publish_operation *)call;
  return call ? 0 : error->code;
}
static void publish_cancel(struct publisher *publisher, struct publish_operation *operation) {
  (void)publisher;
  cancel(operation);
}
static void publisher_stays(struct publisher *publisher) {
  (void)publisher;
}
static const struct publisher_ops publisher_ops = {
    .start = publish_start, .cancel = publish_cancel, .destroy = publisher_stays};

/* ---- signer ---- */

static void end_check(struct call *call) {
  struct signer_result *results = calloc(call->count + 1, sizeof *results);
  assert_non_null(results);
  for (size_t i = 0; i < call->count; i++) set_failure(&results[i].error, the_world->item_code, "a foreign line matches first");
  set_failure(&results[call->count].error, the_world->signer_code, "KeyTable cannot be written");
  call->signed_by(call->context, results, call->count + 1);
  free(results);
}

static void end_proof(struct call *call) {
  struct signer_result *results = calloc(call->count, sizeof *results);
  assert_non_null(results);
  for (size_t i = 0; i < call->count; i++) {
    const struct signer_item *item = &call->signer_items[i];
    set_failure(&results[i].error, the_world->proof_code, "it signs with another key");
    if ((item->record && text_equal(item->record, the_world->bad_record)) || text_equal(item->senders[0], the_world->bad_sender))
      set_failure(&results[i].error, ERROR_PROOF, "the signature is not valid");
  }
  call->signed_by(call->context, results, call->count);
  free(results);
}

static int signer_check_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                              signer_done *done, void *context, struct signer_operation **ret_operation,
                              struct error *error) {
  (void)signer;
  (void)deadline;
  the_world->checked_count += count;
  assert_int_equal(items[count - 1].sender_count, 1);
  text_copy(the_world->senders, sizeof the_world->senders, items[count - 1].senders[0]);
  struct call *call = call_later(&(struct call){.end = end_check, .signed_by = done, .context = context, .count = count}, error);
  *ret_operation = (struct signer_operation *)call;
  return call ? 0 : error->code;
}
static int signer_prove_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                              signer_done *done, void *context, struct signer_operation **ret_operation,
                              struct error *error) {
  (void)signer;
  assert_true(deadline <= loop_boottime(the_world->loop) + the_world->seconds * 1000);
  for (size_t i = 0; the_world->record && i < count; i++) {
    assert_non_null(items[i].record);
    assert_int_equal(items[i].sender_count, 1);
  }
  if (the_world->record) assert_in_range(count, 1, PROOF_SLICE);
  the_world->slices++;
  the_world->proved_count += count;
  text_copy(the_world->proved, sizeof the_world->proved, items[count - 1].selector);
  struct call *call = call_later(&(struct call){.end = end_proof, .signed_by = done, .context = context, .signer_items = items, .count = count}, error);
  *ret_operation = (struct signer_operation *)call;
  return call ? 0 : error->code;
}
static void signer_cancels(struct signer *signer, struct signer_operation *operation) {
  (void)signer;
  cancel(operation);
}
static void signer_stays(struct signer *signer) {
  (void)signer;
}
static const struct signer_ops signer_ops = {
    .prove = signer_prove_start, .check = signer_check_start, .cancel = signer_cancels, .destroy = signer_stays};

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
  if (the_world->make_signer_code) return error_set(error, the_world->make_signer_code, "the signer has no milter");
  *ret_signer = &the_world->signer;
  return 0;
}
static int start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count,
                        int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  (void)signers;
  (void)signer_count;
  int result = 0;
  for (size_t i = 0; i < policy->signer_count && !result; i++) result = key_roots_add(&the_world->roots, policy->signers[i].key_directory, error);
  if (result) key_roots_release(&the_world->roots);
  *ret_descriptor = -1;
  *ret_pid = -1;
  return result;
}
static void release_backends(struct cli_backends *backends) {
  keeper_destroy(backends->keeper);
  loop_destroy(backends->loop);
  key_roots_release(&the_world->roots);
}
static int make_backends(int descriptor, pid_t pid, struct cli_backends *ret_backends, struct error *error) {
  struct clock_reading start;
  (void)descriptor;
  (void)pid;
  the_world->loop = NULL;
  clock_read(&start);
  start.synchronised = the_world->synchronised;
  int result = loop_virtual_new(&start, &the_world->loop, error);
  const size_t count = key_jobs_handlers(&the_world->roots, the_world->handlers);
  struct keeper *keeper = NULL;
  if (!result) result = keeper_direct_new(the_world->loop, the_world->handlers, count, &keeper, error);
  *ret_backends = (struct cli_backends){.loop = the_world->loop,
                                        .observer = &the_world->observer,
                                        .entropy = &the_world->entropy.entropy,
                                        .factory = {make_publisher, make_signer, NULL},
                                        .keeper = keeper};
  if (result) release_backends(ret_backends);
  return result;
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

void check_world_wire(struct scripted_world *world, struct desk *desk) {
  desk->wiring = (struct cli_wiring){
      .open_store = store_sqlite_open, .start_keeper = start_keeper, .make_backends = make_backends, .release_backends = release_backends};
  *world = (struct scripted_world){.observer = {&observer_ops},
                                   .publisher = {&publisher_ops},
                                   .signer = {&signer_ops},
                                   .attests = true,
                                   .wildcard_ttl = -1,
                                   .seconds = CLI_CHECK_SECONDS};
  entropy_seed(&world->entropy, 7);
  the_world = world;
}

void check_world_make(struct scripted_world *world, struct desk *desk, const char *domains) {
  *desk = (struct desk){0};
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
  check_world_wire(world, desk);
}

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

void make_active(struct desk *desk, const char *domain, bool matching) {
  desk_sync(desk);
  desk_edit(desk, domain, NULL, make_file, &matching);
}

void assert_verdict(const struct desk *desk, const char *verdict) {
  CLEANUP_FREE char *line = text_format("\n%s\n", verdict);
  if (!text_ends(desk->out, line)) fail_msg("the last line is not \"%s\" in:\n%s\n%s", verdict, desk->out, desk->err);
}
