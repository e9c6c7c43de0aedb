/* Each call fails once on the way to others: to the keeper's processes and through them to a key file, to a name server over real sockets, to a real OpenDKIM. */
#include "../unit/signer_stage.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../unit/fake_systemd.h"
#include "dkimroll/clock.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/opendkim_reload.h"
#include "dkimroll/transport.h"
#include "fault.h"

/* ---- the keeper ---- */

struct errand {
  struct workplace folder;
  char *path;
  struct key_roots roots;
  struct keeper_handler handlers[KEY_JOBS_COUNT];
  struct loop *loop;
  struct error result;
  bool done;
};

static void errand_begin(void *context) {
  struct errand *errand = context;
  struct error error = {0};
  *errand = (struct errand){0};
  workplace_make(&errand->folder, "/run");
  errand->path = workplace_path(&errand->folder, "keys/s1.private");
  assert_int_equal(key_roots_add(&errand->roots, errand->folder.path, &error), 0);
  key_jobs_handlers(&errand->roots, errand->handlers);
}

static void errand_end(void *context) {
  struct errand *errand = context;
  key_roots_release(&errand->roots);
  workplace_remove(&errand->folder);
  free(errand->path);
}

static void errand_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct errand *errand = context;
  struct keypair_public key = {0};
  assert_false(errand->done);
  errand->done = true;
  errand->result = *result;
  if (result->code == 0) {
    struct error error = {0};
    if (key_jobs_read_public(reply, reply_size, &key, &error)) errand->result = error;
    keypair_public_release(&key);
  }
  loop_stop(errand->loop);
}

static int errand_run(struct errand *errand, struct keeper *keeper, struct error *error) {
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  const struct key_generate_request request = {.algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = errand->path, .owner = "root:root", .mode = 0600};
  key_jobs_generate(&payload, &request);
  if (payload.failed) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  errand->done = false;
  int code = keeper_submit(keeper, KEEPER_GENERATE, &payload, loop_boottime(errand->loop) + DEADLINE_MS, errand_done, errand, error);
  if (code) return code;
  code = loop_run(errand->loop, error);
  if (code == 0) {
    assert_true(errand->done);
    *error = errand->result;
  }
  return code ? code : errand->result.code;
}

/* From the first fork to the end of the processes. */
static int errand_act(void *context, struct error *error) {
  struct errand *errand = context;
  struct keeper *keeper = NULL;
  int descriptor = -1;
  pid_t pid = -1;
  errand->loop = NULL;
  int code = keeper_process_start(errand->handlers, KEY_JOBS_COUNT, 1, &descriptor, &pid, error);
  if (code) return code;
  code = loop_sd_event_new(&errand->loop, error);
  if (code == 0) code = keeper_connect(errand->loop, descriptor, pid, &keeper, error);
  if (!keeper) {
    close(descriptor);
    waitpid(pid, NULL, 0);
  }
  if (code == 0) code = errand_run(errand, keeper, error);
  keeper_destroy(keeper);
  loop_destroy(errand->loop);
  return code;
}

static void errand_check(void *context, bool whole) {
  struct errand *errand = context;
  struct keypair_public key = {0};
  struct error error = {0};
  const bool there = access(errand->path, F_OK) == 0;
  if (whole) assert_true(there);
  if (there && keypair_read_public(errand->path, &key, &error)) fail_msg("%s", error.message);
  keypair_public_release(&key);
}

static void test_fault_processes__a_job_of_the_keeper_is_done_or_fails(void **state) {
  (void)state;
  struct errand errand;
  const struct fault_workload workload = {
      .name = "keeper", .context = &errand, .begin = errand_begin, .act = errand_act, .check = errand_check, .end = errand_end, .forks = true};
  fault_each(&workload);
}

/* ---- sockets ---- */

enum { MESSAGE_SIZE = 20 };

/* Sends every message back, until it is killed. */
static _Noreturn void echo_live(int datagrams, int listener) {
  uint8_t octets[512];
  for (;;) {
    struct pollfd polls[] = {{.fd = datagrams, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    poll(polls, 2, -1);
    if (polls[0].revents) {
      const ssize_t got = recvfrom(datagrams, octets, sizeof octets, 0, (struct sockaddr *)&peer, &size);
      if (got > 0) (void)!sendto(datagrams, octets, (size_t)got, 0, (struct sockaddr *)&peer, size);
    } else if (polls[1].revents) {
      const int stream = accept(listener, NULL, NULL);
      const ssize_t got = read(stream, octets, MESSAGE_SIZE + 2);
      if (got > 0) (void)!write(stream, octets, (size_t)got);
      close(stream);
    }
  }
}

struct talk {
  pid_t server;
  struct transport_request request;
  struct loop *loop;
  struct error result;
  bool done, answered;
};

static pid_t echo_start(struct address *ret_address) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof in;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(listener, (struct sockaddr *)&in, size), 0);
  assert_int_equal(listen(listener, 16), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &size), 0);
  assert_int_equal(bind(datagrams, (struct sockaddr *)&in, size), 0);
  const pid_t pid = fork();
  if (pid == 0) echo_live(datagrams, listener);
  address_from_octets((const uint8_t[]){127, 0, 0, 1}, 4, ntohs(in.sin_port), ret_address);
  close(listener);
  close(datagrams);
  return pid;
}

static bool talk_accept(void *context, const uint8_t *octets, size_t size) {
  struct talk *talk = context;
  assert_false(talk->done);
  talk->answered = size == talk->request.size && memcmp(octets, talk->request.octets, size) == 0;
  return true;
}

static void talk_done(void *context, const struct error *result) {
  struct talk *talk = context;
  assert_false(talk->done);
  talk->done = true;
  talk->result = *result;
  loop_stop(talk->loop);
}

static int talk_act(void *context, struct error *error) {
  struct talk *talk = context;
  struct transport *transport = NULL;
  struct transport_exchange *exchange = NULL;
  talk->loop = NULL;
  talk->done = talk->answered = false;
  int code = loop_sd_event_new(&talk->loop, error);
  if (code == 0) code = transport_sockets_new(talk->loop, &transport, error);
  if (code == 0) {
    talk->request.deadline = loop_boottime(talk->loop) + 2000;
    code = transport_exchange(transport, &talk->request, talk_accept, talk_done, talk, &exchange, error);
  }
  if (code == 0) code = loop_run(talk->loop, error);
  if (code == 0) {
    assert_true(talk->done);
    *error = talk->result;
    code = error->code;
  }
  if (!talk->done && exchange) transport_cancel(transport, &exchange);
  transport_destroy(transport);
  loop_destroy(talk->loop);
  return code;
}

static void talk_check(void *context, bool whole) {
  const struct talk *talk = context;
  if (whole) assert_true(talk->answered);
}

static void test_fault_processes__an_exchange_is_answered_or_fails(void **state) {
  (void)state;
  static const uint8_t octets[MESSAGE_SIZE] = {0x12, 0x34, 1, 2, 3};
  const enum transport_protocol protocols[] = {TRANSPORT_UDP, TRANSPORT_TCP};
  struct talk talk = {.request = {.octets = octets, .size = sizeof octets}};
  talk.server = echo_start(&talk.request.address);
  for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
    talk.request.protocol = protocols[i];
    const struct fault_workload workload = {.name = i ? "TCP" : "UDP", .context = &talk, .act = talk_act, .check = talk_check};
    fault_each(&workload);
  }
  kill(talk.server, SIGKILL);
  waitpid(talk.server, NULL, 0);
}

/* ---- OpenDKIM ---- */

struct switching {
  struct stage stage;
  struct signer_item item;
  char *foreign_keys;
};

static void switching_begin(void *context) {
  struct switching *switching = context;
  struct stage *stage = &switching->stage;
  stage_open(stage, &(struct opendkim_setup){.options = "SignatureAlgorithm ed25519-sha256\nCanonicalization relaxed/simple\n", .key_table = FOREIGN_KEYS, .signing_table = FOREIGN_SENDERS});
  switching->item = item_of(stage, "example.com", "new", "old", true);
  struct signer_item first = item_of(stage, "example.com", "old", NULL, true);
  stage_connect(stage);
  stage_run(stage, signer_activate, &first, 1, DEADLINE_MS);
  assert_success(stage, 0);
  stage_disconnect(stage);
  item_release(&first);
}

static void switching_end(void *context) {
  struct switching *switching = context;
  item_release(&switching->item);
  stage_close(&switching->stage);
}

static int switching_connect(struct stage *stage, struct error *error) {
  int code = opendkim_roots_add(&stage->roots, &stage->policy, error);
  const size_t count = opendkim_jobs_handlers(&stage->roots, stage->handlers);
  if (code == 0) code = loop_sd_event_new(&stage->loop, error);
  if (code == 0) code = keeper_direct_new(stage->loop, stage->handlers, count, &stage->keeper, error);
  if (code == 0) code = connector_sockets_new(stage->loop, &stage->connector, error);
  if (code == 0) code = signer_opendkim_new(stage->connector, stage->keeper, &entropy_system, &stage->policy, &stage->signer, error);
  return code;
}

static int switching_act(void *context, struct error *error) {
  struct switching *switching = context;
  struct stage *stage = &switching->stage;
  struct signer_operation *operation = NULL;
  stage->result_count = SIZE_MAX;
  int code = switching_connect(stage, error);
  if (code == 0)
    code = signer_activate(stage->signer, &switching->item, 1, loop_boottime(stage->loop) + DEADLINE_MS, stage_done, stage, &operation, error);
  if (code == 0) code = loop_run(stage->loop, error);
  if (code == 0) {
    assert_int_equal(stage->result_count, 1);
    *error = stage->results[0].error;
    code = error->code;
  }
  if (operation && stage->result_count == SIZE_MAX) signer_cancel(stage->signer, &operation);
  stage_disconnect(stage);
  return code;
}

/* Foreign lines are as they were; the sender is signed for with a key that KeyTable has. */
static void switching_check(void *context, bool whole) {
  struct switching *switching = context;
  struct stage *stage = &switching->stage;
  CLEANUP_FREE char *keys = opendkim_host_read(stage->host.key_table);
  CLEANUP_FREE char *senders = opendkim_host_read(stage->host.signing_table);
  assert_true(text_starts(keys, FOREIGN_KEYS) && text_starts(senders, FOREIGN_SENDERS));
  const bool new = strstr(senders, "*@example.com new._domainkey.example.com\n") != NULL, old = strstr(senders, "*@example.com old._domainkey.example.com\n") != NULL;
  if (new == old) fail_msg("SigningTable:\n%s", senders);
  assert_non_null(strstr(keys, "\nold._domainkey.example.com example.com:old:/"));
  if (new) assert_non_null(strstr(keys, "\nnew._domainkey.example.com example.com:new:/"));
  if (!whole) return;
  assert_true(new);
  stage_connect(stage);
  assert_signs_with(stage, "example.com", "new");
  stage_disconnect(stage);
}

static void test_fault_processes__a_switch_is_proved_or_the_old_key_signs(void **state) {
  (void)state;
  struct switching switching;
  const struct fault_workload workload = {
      .name = "switch", .context = &switching, .begin = switching_begin, .act = switching_act, .check = switching_check, .end = switching_end};
  fault_each(&workload);
}

/* ---- a reload by a unit ---- */

enum { UNIT_MS = 10000 };

static int unit_act(void *context, struct error *error) {
  const bool *restart = context;
  if (*restart) return restart_unit("opendkim.service", clock_boottime() + UNIT_MS, error);
  const int result = reload_unit("opendkim.service", true, clock_boottime() + UNIT_MS, error);
  return result ? result : reload_unit("opendkim.service", false, clock_boottime() + UNIT_MS, error);
}

static void test_fault_processes__a_unit_is_reloaded_or_it_is_said_why_not(void **state) {
  (void)state;
  struct bus bus;
  bus_open(&bus, true);
  for (int restart = 0; restart < 2; restart++) {
    bool as_restart = restart != 0;
    const struct fault_workload workload = {
        .name = restart ? "restart by a unit" : "reload by a unit", .context = &as_restart, .act = unit_act, .place = "unit opendkim.service"};
    fault_each(&workload);
  }
  bus_close(&bus);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_processes__##name, fault_teardown)

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  const struct CMUnitTest tests[] = {
      FAULT_TEST(a_job_of_the_keeper_is_done_or_fails),
      FAULT_TEST(an_exchange_is_answered_or_fails),
      FAULT_TEST(a_switch_is_proved_or_the_old_key_signs),
      FAULT_TEST(a_unit_is_reloaded_or_it_is_said_why_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
