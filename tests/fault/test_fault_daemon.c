/* Each call fails once in the daemon: in its head, in a life of it, and in what asks it for something. It works, or ends in order and says why; the next one works. */
#include "../unit/cli_desk.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "dkimroll/daemon.h"
#include "dkimroll/wake.h"
#include "fault.h"

enum {
  PEER_SECONDS = 20,   /* until the other side gives up: far more than anything takes */
  RELOAD_MS = 2000,    /* for a wish that may have got lost */
  ANSWER_STATUS = 42,
  SAID_MAX = 4096,
};

static const char TWO[] = "  example.com:\n  example.org:\nhooks: {transition: [/bin/true], needs-person: [/bin/true]}\n";
static const char ANSWER[] = "two\nlines";

/* What the other side heard; shared with its process. */
struct heard {
  bool valid, ready, status, alive, asked, answered, failed, over;
  char text[SAID_MAX]; /* of DAEMON_FAILED */
};

/* ---- the wake socket ---- */

struct place {
  struct desk desk;
  struct cli cli;
  struct keeper keeper;
  struct loop *loop;
  struct heard *heard;
  pid_t peer;
  char *complaint; /* cli.err */
  size_t complaint_size;
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
  while (poll(&polled, 1, PEER_SECONDS * 1000) == 1 && wake_receive(descriptor, &word, &asker))
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
  assert_true(clock_boottime() < begun + PEER_SECONDS * 1000);
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

static struct place *the_place; /* of the workload under way: the wiring has no context */

static void answer_walls(void *context) {
  keeper_done *const done = *(keeper_done **)context;
  void *const whom = ((void **)context)[1];
  const struct error fine = {0};
  free(context);
  done(whom, &fine, NULL, 0);
}

static int keeper_take(struct keeper *keeper, enum keeper_job job, const struct buffer *payload, int64_t deadline, keeper_done *done, void *context, struct error *error) {
  (void)keeper, (void)payload, (void)deadline, (void)error;
  assert_int_equal(job, KEEPER_WALLS);
  void **parts = calloc(2, sizeof *parts);
  memcpy(parts, &done, sizeof done);
  parts[1] = context;
  fault_pause();
  const int result = loop_defer(the_place->loop, answer_walls, parts, NULL);
  fault_go_on();
  return result;
}
static const struct keeper_ops KEEPER_OPS = {.submit = keeper_take};

static int start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t count, int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  (void)policy, (void)signers, (void)count, (void)error;
  *ret_descriptor = open("/dev/null", O_RDWR | O_CLOEXEC);
  *ret_pid = 0;
  assert_true(*ret_descriptor >= 0);
  return 0;
}

/* Nothing is due, and nobody can look at tables. */
static void destroy_signer(struct signer *signer) { (void)signer; }
static int make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer, struct error *error) {
  static const struct signer_ops ops = {.destroy = destroy_signer};
  static struct signer signer = {&ops};
  (void)context, (void)policy, (void)error;
  *ret_signer = &signer;
  return 0;
}

static int make_backends(int descriptor, pid_t pid, struct cli_backends *ret_backends, struct error *error) {
  struct place *place = the_place;
  struct clock_reading start;
  (void)pid;
  close(descriptor);
  *ret_backends = (struct cli_backends){.entropy = &entropy_system, .keeper = &place->keeper, .factory = {.make_signer = make_signer}};
  place->keeper.ops = &KEEPER_OPS;
  clock_read(&start);
  const int result = loop_virtual_new(&start, &ret_backends->loop, error);
  if (result) return result;
  loop_virtual_set_patience(ret_backends->loop, 5);
  place->loop = ret_backends->loop;
  return 0;
}

static void release_backends(struct cli_backends *backends) { loop_destroy(backends->loop); }

static void wait_long(struct lineage *lineage, const struct desk *desk, void *context) {
  desk_live(lineage, desk, context);
  lineage->next_moment = desk->now + 1000 * (int64_t)DAY;
}

static void place_begin(void *context) {
  struct place *place = context;
  the_place = place;
  desk_make(&place->desk, TWO);
  CLEANUP_FREE char *metrics = workplace_path(&place->desk.folder, "dkimroll.prom");
  CLEANUP_FREE char *domains = text_format("%smetrics: {file: %s}\n", TWO, metrics);
  desk_write_policy(&place->desk, domains);
  desk_sync(&place->desk);
  desk_edit(&place->desk, NULL, NULL, wait_long, NULL);
  place->desk.wiring.start_keeper = start_keeper;
  place->desk.wiring.make_backends = make_backends;
  place->desk.wiring.release_backends = release_backends;
  place->desk.arguments.policy = place->desk.policy;
  place->cli = (struct cli){.wiring = &place->desk.wiring, .arguments = &place->desk.arguments, .log = {.maximum = LOG_LEVEL_ERROR}, .out = stdout};
}

static void place_end(void *context) { desk_remove(&((struct place *)context)->desk); }

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
  int64_t until = clock_boottime() + PEER_SECONDS * 1000, stop_at = TIME_NEVER;
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

static int life_act(void *context, struct error *error) {
  struct place *place = context;
  int ends[2], status = 0;
  *place->heard = (struct heard){0};
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  const pid_t peer = fork();
  if (peer == 0) {
    close(ends[0]);
    be_head(ends[1], place->desk.state, place->heard);
  }
  close(ends[1]);
  place->cli.err = open_memstream(&place->complaint, &place->complaint_size);
  const int code = daemon_live(&place->cli, &(struct daemon_start){.channel = ends[0], .alive_ms = 100});
  close(ends[0]);
  fclose(place->cli.err);
  assert_int_equal(waitpid(peer, &status, 0), peer);
  const struct heard *heard = place->heard;
  if (!heard->over) fail_msg("it did not end in time");
  if (code == EX_OK) {
    if (!heard->ready) fail_msg("it worked, and its head did not know");
    /* Else a single word got lost. */
    if (!fault_fired() && !(heard->valid && heard->status && heard->alive && heard->asked && heard->answered)) fail_msg("the head missed something");
  } else {
    /* Where there is no memory for a text of its own, it goes to stderr. */
    const char *told = heard->failed ? heard->text : place->complaint;
    if (!told[0]) fail_msg("it ends with %d and without a word", code);
    error_set(error, ERROR_SYSTEM, "%.*s", (int)strcspn(told, "\n"), told);
  }
  free(place->complaint);
  place->complaint = NULL;
  return code ? ERROR_SYSTEM : 0;
}

/* The lease is free, and the store is whole. */
static void life_check(void *context, bool whole) {
  struct place *place = context;
  struct error error = {0};
  struct store *store = desk_open_store(&place->desk);
  (void)whole;
  if (store->ops->lease(store, "test", place->desk.now, &error)) fail_msg("%s", error.message);
  store_close(store);
  assert_false(wake_is_heard(place->desk.state));
}

static void test_fault_daemon__a_life_works_or_ends_in_order_and_says_why(void **state) {
  (void)state;
  struct place place = {.heard = share(sizeof(struct heard))};
  const struct fault_workload workload = {
      .name = "daemon's life", .context = &place, .begin = place_begin, .act = life_act, .check = life_check, .end = place_end};
  fault_each(&workload);
  munmap(place.heard, sizeof(struct heard));
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
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
