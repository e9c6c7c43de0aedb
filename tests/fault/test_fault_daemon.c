/* Each call fails once in the daemon: in its head, in a life of it, and in what asks it for something. It works, or ends in order and says why; the next one works. */
#include "../unit/daemon_desk.h"

#include "fault.h"

enum {
  RELOAD_MS = 2000, /* for a wish that may have got lost */
  ANSWER_STATUS = 42,
  SAID_MAX = 4096,
};

static const char TWO[] = "  example.com:\n  example.org:\nhooks: {transition: [/bin/true], needs-person: [/bin/true]}\n";
static const char ANSWER[] = "two\nlines";

/* ---- the wake socket ---- */

struct place {
  struct desk desk; /* of which only folder and state are made */
  pid_t peer;
};

static void wake_begin(void *context) {
  struct place *place = context;
  workplace_make(&place->desk.folder, "/tmp");
  place->desk.state = workplace_path(&place->desk.folder, "state.db");
}

static void wake_end(void *context) {
  struct place *place = context;
  workplace_remove(&place->desk.folder);
  free(place->desk.state);
}

static int listen_act(void *context, struct error *error) {
  struct place *place = context;
  struct wake_asker asker;
  enum wake_word word = WAKE_NONE;
  int descriptor = -1;
  const int result = wake_listen(place->desk.state, &descriptor, error);
  if (result) return result;
  /* Who cannot ask says so, and what cannot be taken out stays there for the next look. */
  if (wake_is_heard(place->desk.state) && wake_send(place->desk.state)) {
    if (!wake_receive(descriptor, &word, &asker)) assert_true(wake_receive(descriptor, &word, &asker));
    assert_int_equal(word, WAKE_TURN);
  } else {
    assert_non_null(fault_fired());
  }
  close(descriptor);
  return 0;
}

static void test_fault_daemon__a_wish_is_heard_or_not_made(void **state) {
  (void)state;
  struct place place;
  const struct fault_workload workload = {.name = "wake", .context = &place, .begin = wake_begin, .act = listen_act, .end = wake_end};
  fault_each(&workload);
}

/* A daemon in a process of its own, for one reload. */
static _Noreturn void answer_once(int descriptor) {
  struct wake_asker asker;
  enum wake_word word;
  struct pollfd polled = {.fd = descriptor, .events = POLLIN};
  fault_disarm();
  while (poll(&polled, 1, DAEMON_DESK_SECONDS * 1000) == 1 && wake_receive(descriptor, &word, &asker))
    if (word == WAKE_RELOAD) {
      wake_answer(descriptor, &asker, ANSWER_STATUS, ANSWER);
      _exit(0);
    }
  _exit(1);
}

static void asking_begin(void *context) {
  struct place *place = context;
  struct error error = {0};
  int descriptor = -1;
  wake_begin(place);
  assert_int_equal(wake_listen(place->desk.state, &descriptor, &error), 0);
  place->peer = fork();
  assert_true(place->peer >= 0);
  if (place->peer == 0) answer_once(descriptor);
  close(descriptor);
}

static void asking_end(void *context) {
  struct place *place = context;
  kill(place->peer, SIGKILL);
  assert_int_equal(waitpid(place->peer, NULL, 0), place->peer);
  wake_end(place);
}

static int asking_act(void *context, struct error *error) {
  struct place *place = context;
  CLEANUP_FREE char *text = NULL;
  int status = 0;
  const int64_t begun = clock_boottime();
  const int result = wake_reload(place->desk.state, &status, &text, error);
  /* An answer that came is not waited for. */
  assert_true(clock_boottime() < begun + DAEMON_DESK_SECONDS * 1000);
  if (result) return result;
  assert_int_equal(status, ANSWER_STATUS);
  assert_string_equal(text, ANSWER);
  return 0;
}

static void test_fault_daemon__who_asks_for_a_reload_learns_what_came_of_it(void **state) {
  (void)state;
  struct place place;
  const struct fault_workload workload = {.name = "reload", .context = &place, .begin = asking_begin, .act = asking_act, .end = asking_end};
  fault_each(&workload);
}

/* ---- a life ---- */

/* What the other side heard; shared with its process. */
struct heard {
  bool valid, ready, status, alive, asked, answered, failed, over;
  char text[SAID_MAX]; /* of DAEMON_FAILED */
};

struct stage {
  struct daemon_desk daemon;
  struct heard *heard;
};

static void stage_begin(void *context) { daemon_desk_make(&((struct stage *)context)->daemon, TWO); }
static void stage_end(void *context) { daemon_desk_remove(&((struct stage *)context)->daemon); }

static void *share(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(memory != MAP_FAILED);
  return memory;
}

/* Somebody who asks for a reload beside the head. */
static _Noreturn void ask_for_reload(const char *state) {
  CLEANUP_FREE char *text = NULL;
  struct error error = {0};
  int status = 0;
  _exit(wake_reload(state, &status, &text, &error) || status != ANSWER_STATUS || !text_equal(text, ANSWER));
}

static void peer_answer(int channel, const char *asker) {
  char message[sizeof(struct wake_asker) + 1 + sizeof ANSWER];
  memcpy(message, asker, sizeof(struct wake_asker));
  message[sizeof(struct wake_asker)] = ANSWER_STATUS;
  memcpy(message + sizeof(struct wake_asker) + 1, ANSWER, sizeof ANSWER - 1);
  daemon_send(channel, DAEMON_ANSWER, message, sizeof message - 1);
}

/* Takes what the life says; false: it is gone. */
static bool peer_hear(int channel, struct heard *heard) {
  char octets[DAEMON_MESSAGE_MAX + 1];
  struct pollfd polled = {.fd = channel, .events = POLLIN};
  enum daemon_word word;
  size_t size = 0;
  if (poll(&polled, 1, 10) < 1) return true;
  const int taken = daemon_receive(channel, &word, octets, &size);
  if (taken < 0) return false;
  if (taken == 0) return true;
  heard->valid |= word == DAEMON_VALID;
  heard->ready |= word == DAEMON_READY;
  heard->status |= word == DAEMON_STATUS;
  heard->alive |= word == DAEMON_ALIVE && heard->ready;
  if (word == DAEMON_RELOAD) {
    heard->asked = true;
    peer_answer(channel, octets);
  }
  if (word == DAEMON_FAILED) {
    heard->failed = true;
    text_copy(heard->text, sizeof heard->text, octets + 1);
  }
  return true;
}

/* The head of one life: hears that it is ready, has it asked for a turn and a reload, and ends it. */
static _Noreturn void be_head(int channel, const char *state, struct heard *heard) {
  int64_t until = clock_boottime() + DAEMON_DESK_SECONDS * 1000, stop_at = TIME_NEVER;
  pid_t asker = 0;
  int status = 0;
  bool stopped = false;
  fault_disarm();
  while (peer_hear(channel, heard) && clock_boottime() < until) {
    if (heard->ready && !asker) {
      (void)wake_send(state);
      stop_at = clock_boottime() + RELOAD_MS;
      asker = fork();
      if (asker == 0) ask_for_reload(state);
    }
    if (asker > 0 && !heard->answered && waitpid(asker, &status, WNOHANG) == asker) heard->answered = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (stopped || !((heard->answered && heard->status && heard->alive) || clock_boottime() > stop_at)) continue;
    daemon_send(channel, DAEMON_STOP, NULL, 0);
    stopped = true;
  }
  heard->over = clock_boottime() < until;
  if (asker > 0) kill(asker, SIGKILL);
  _exit(0);
}

static int tell(const char *told, int code, struct error *error) {
  if (!told || !told[0]) fail_msg("it ends with %d and without a word", code);
  return error_set(error, ERROR_SYSTEM, "%.*s", (int)strcspn(told, "\n"), told);
}

static int life_act(void *context, struct error *error) {
  struct stage *stage = context;
  struct daemon_desk *daemon = &stage->daemon;
  int ends[2], status = 0;
  *stage->heard = (struct heard){0};
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  const pid_t peer = fork();
  if (peer == 0) {
    close(ends[0]);
    be_head(ends[1], daemon->desk.state, stage->heard);
  }
  close(ends[1]);
  free(daemon->complaint);
  daemon->cli.err = open_memstream(&daemon->complaint, &daemon->complaint_size);
  const int code = daemon_live(&daemon->cli, &(struct daemon_start){.channel = ends[0], .alive_ms = 100});
  close(ends[0]);
  fclose(daemon->cli.err);
  assert_int_equal(waitpid(peer, &status, 0), peer);
  const struct heard *heard = stage->heard;
  if (!heard->over) fail_msg("it did not end in time");
  /* Where there is no memory for a text of its own, it goes to stderr. */
  if (code) return tell(heard->failed ? heard->text : daemon->complaint, code, error);
  if (!heard->ready) fail_msg("it worked, and its head did not know");
  /* Else a single word got lost. */
  if (!fault_fired() && !(heard->valid && heard->status && heard->alive && heard->asked && heard->answered)) fail_msg("the head missed something");
  return 0;
}

/* The lease is free, and the store is whole. */
static void life_check(void *context, bool whole) {
  const struct stage *stage = context;
  struct error error = {0};
  struct store *store = desk_open_store(&stage->daemon.desk);
  (void)whole;
  if (store->ops->lease(store, "test", stage->daemon.desk.now, &error)) fail_msg("%s", error.message);
  store_close(store);
  assert_false(wake_is_heard(stage->daemon.desk.state));
}

static void test_fault_daemon__a_life_works_or_ends_in_order_and_says_why(void **state) {
  (void)state;
  struct stage stage = {.heard = share(sizeof(struct heard))};
  const struct fault_workload workload = {
      .name = "daemon's life", .context = &stage, .begin = stage_begin, .act = life_act, .check = life_check, .end = stage_end, .costly = true};
  fault_each(&workload);
  munmap(stage.heard, sizeof(struct heard));
}

/* ---- the head ---- */

static void disarm(void) { fault_disarm(); }

static int head_act(void *context, struct error *error) {
  static const int signals[] = {SIGHUP, SIGTERM};
  struct daemon_desk *daemon = &((struct stage *)context)->daemon;
  const int code = daemon_desk_run(daemon, signals, ARRAY_SIZE(signals), disarm);
  return code ? tell(daemon->complaint, code, error) : 0;
}

/* In a life the same call fails, as far as it comes before its keeper. */
static int start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t count, int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  fault_disarm();
  return daemon_desk_start_keeper(policy, signers, count, ret_descriptor, ret_pid, error);
}

static void head_begin(void *context) {
  stage_begin(context);
  ((struct stage *)context)->daemon.desk.wiring.start_keeper = start_keeper;
}

static void test_fault_daemon__its_head_leads_lives_or_says_why_not(void **state) {
  (void)state;
  struct stage stage;
  const struct fault_workload workload = {
      .name = "daemon's head", .context = &stage, .begin = head_begin, .act = head_act, .check = life_check, .end = stage_end, .forks = true, .costly = true};
  fault_each(&workload);
}

/* ---- a wish beside a daemon ---- */

/* Somebody else has the lease, so that the wish is only written down. */
struct wish {
  const char *name;
  int (*command)(const struct cli *cli);
  enum store_request_kind kind;
  uint64_t (*situation)(const void *context);
  struct daemon_desk daemon;
  struct store *holder;
};

/* Whoever waits for the holder looks again and again, and nothing changes. */
static uint64_t wish_situation(const void *context) {
  (void)context;
  return 0;
}

static void wish_begin(void *context) {
  struct wish *wish = context;
  static const char *const operands[] = {"example.com", "example.org"};
  struct error error = {0};
  daemon_desk_make(&wish->daemon, TWO);
  struct cli_arguments *arguments = &wish->daemon.desk.arguments;
  arguments->operands = operands;
  arguments->operand_count = ARRAY_SIZE(operands);
  arguments->reason = "read on the host";
  arguments->yes = arguments->no_wait = true;
  arguments->until = TIME_UNSET;
  wish->holder = desk_open_store(&wish->daemon.desk);
  assert_int_equal(wish->holder->ops->lease(wish->holder, "test", wish->daemon.desk.now, &error), 0);
}

static void wish_end(void *context) {
  struct wish *wish = context;
  store_close(wish->holder);
  daemon_desk_remove(&wish->daemon);
}

static int wish_act(void *context, struct error *error) {
  struct daemon_desk *daemon = &((struct wish *)context)->daemon;
  char *out = NULL;
  size_t out_size = 0;
  free(daemon->complaint);
  daemon->cli.err = open_memstream(&daemon->complaint, &daemon->complaint_size);
  daemon->cli.out = open_memstream(&out, &out_size);
  const int status = ((struct wish *)context)->command(&daemon->cli);
  fclose(daemon->cli.out);
  fclose(daemon->cli.err);
  const bool asked = (status == EX_TEMPFAIL || status == EX_OK) && !daemon->complaint[0];
  free(out);
  return asked ? 0 : tell(daemon->complaint, status, error);
}

struct asked {
  enum store_request_kind kind;
  bool com, org;
};

static int note_wish(void *context, const void *row) {
  struct asked *asked = context;
  const struct store_request *request = row;
  assert_int_equal(request->kind, asked->kind);
  if (asked->kind == REQUEST_REVOKE) {
    assert_string_equal(request->reason, "read on the host");
    assert_true(request->selector && request->selector[0]);
  }
  asked->com |= text_equal(request->domain, "example.com");
  asked->org |= text_equal(request->domain, "example.org");
  return 0;
}

/* What was asked for is all there; a wish that is said again is none more. */
static void wish_check(void *context, bool whole) {
  const struct wish *wish = context;
  const struct store_filter all = {0};
  struct asked asked = {.kind = wish->kind};
  struct error error = {0};
  assert_int_equal(wish->holder->ops->select(wish->holder, STORE_SELECT_REQUESTS, &all, note_wish, &asked, &error), 0);
  if (whole) assert_true(asked.com && asked.org);
}

static void test_fault_daemon__what_a_person_wants_is_asked_for_or_said_that_not(void **state) {
  (void)state;
  struct wish wishes[] = {{.name = "revoke beside a daemon", .command = cli_command_revoke, .kind = REQUEST_REVOKE},
                          {.name = "hold beside a daemon", .command = cli_command_hold, .kind = REQUEST_HOLD},
                          {.name = "rotate beside a daemon", .command = cli_command_rotate, .kind = REQUEST_ROTATE, .situation = wish_situation}};
  for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
    const struct fault_workload workload = {.name = wishes[i].name, .context = &wishes[i], .begin = wish_begin, .act = wish_act, .check = wish_check, .end = wish_end,
                                            .situation = wishes[i].situation};
    fault_each(&workload);
  }
}

/* ---- a hold that is carried out at once ---- */

static void hold_begin(void *context) {
  struct daemon_desk *daemon = context;
  static const char *const operands[] = {"example.com", "example.org"};
  daemon_desk_make(daemon, TWO);
  daemon->desk.arguments.operands = operands;
  daemon->desk.arguments.operand_count = ARRAY_SIZE(operands);
  daemon->desk.arguments.until = TIME_UNSET;
}

static int count_held(void *context, const void *row) {
  const struct lineage *lineage = row;
  *(size_t *)context += lineage->held;
  return 0;
}

static size_t held(const struct daemon_desk *daemon) {
  struct store *store = desk_open_store(&daemon->desk);
  const struct store_filter all = {0};
  struct error error = {0};
  size_t count = 0;
  assert_int_equal(store->ops->select(store, STORE_SELECT_LINEAGES, &all, count_held, &count, &error), 0);
  store_close(store);
  return count;
}

static int control_act(struct daemon_desk *daemon, int (*command)(const struct cli *cli), const char *done, struct error *error) {
  char *out = NULL;
  size_t out_size = 0;
  free(daemon->complaint);
  daemon->cli.err = open_memstream(&daemon->complaint, &daemon->complaint_size);
  daemon->cli.out = open_memstream(&out, &out_size);
  const int status = command(&daemon->cli);
  fclose(daemon->cli.out);
  fclose(daemon->cli.err);
  const bool said = status == EX_OK && strstr(out, done);
  free(out);
  return said ? 0 : tell(daemon->complaint, status, error);
}

static int hold_act(void *context, struct error *error) { return control_act(context, cli_command_hold, "held until `dkimroll release`", error); }

static void hold_check(void *context, bool whole) {
  if (whole) assert_int_equal(held(context), 2);
}

static void release_begin(void *context) {
  struct error error = {0};
  hold_begin(context);
  assert_int_equal(hold_act(context, &error), 0);
  assert_int_equal(held(context), 2);
}

static int release_act(void *context, struct error *error) { return control_act(context, cli_command_release, "released", error); }

static void release_check(void *context, bool whole) {
  if (whole) assert_int_equal(held(context), 0);
}

static void hold_end(void *context) { daemon_desk_remove(context); }

static void test_fault_daemon__a_hold_begins_and_ends_or_it_is_said_that_not(void **state) {
  (void)state;
  struct daemon_desk daemon;
  const struct fault_workload hold = {.name = "hold", .context = &daemon, .begin = hold_begin, .act = hold_act, .check = hold_check, .end = hold_end};
  const struct fault_workload release = {.name = "release", .context = &daemon, .begin = release_begin, .act = release_act, .check = release_check, .end = hold_end};
  fault_each(&hold);
  fault_each(&release);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_daemon__##name, fault_teardown)

int main(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  sigprocmask(SIG_BLOCK, &set, NULL); /* as the head does it */
  const struct CMUnitTest tests[] = {
      FAULT_TEST(a_wish_is_heard_or_not_made),
      FAULT_TEST(who_asks_for_a_reload_learns_what_came_of_it),
      FAULT_TEST(a_life_works_or_ends_in_order_and_says_why),
      FAULT_TEST(its_head_leads_lives_or_says_why_not),
      FAULT_TEST(what_a_person_wants_is_asked_for_or_said_that_not),
      FAULT_TEST(a_hold_begins_and_ends_or_it_is_said_that_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
