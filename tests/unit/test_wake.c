/* The socket by which a daemon is woken and asked to read its policy again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <poll.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/wake.h"
#include "workplace.h"

struct place {
  struct workplace folder;
  char *state;
};

static int setup(void **state) {
  struct place *place = calloc(1, sizeof *place);
  workplace_make(&place->folder, "/tmp");
  place->state = workplace_path(&place->folder, "state.db");
  *state = place;
  return 0;
}

static int teardown(void **state) {
  struct place *place = *state;
  workplace_remove(&place->folder);
  free(place->state);
  free(place);
  return 0;
}

static int listen_at(const char *state) {
  struct error error = {0};
  int descriptor = -1;
  if (wake_listen(state, &descriptor, &error)) fail_msg("%s", error.message);
  return descriptor;
}

static void say(const char *state, const void *octets, size_t size) {
  CLEANUP_FREE char *path = wake_path(state);
  CLEANUP_CLOSE int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  assert_true(text_copy(address.sun_path, sizeof address.sun_path, path));
  assert_int_equal(sendto(descriptor, octets, size, 0, (const struct sockaddr *)&address, sizeof address), size);
}

static void test_wake__a_turn_is_asked_for(void **state) {
  const struct place *place = *state;
  CLEANUP_CLOSE int daemon = listen_at(place->state);
  struct wake_asker asker;
  enum wake_word word;
  assert_false(wake_receive(daemon, &word, &asker));
  assert_true(wake_is_heard(place->state));
  assert_false(wake_receive(daemon, &word, &asker)); /* to look says nothing */
  assert_true(wake_send(place->state));
  assert_true(wake_receive(daemon, &word, &asker));
  assert_int_equal(word, WAKE_TURN);
  assert_int_equal(asker.size, 0);
}

static void test_wake__nobody_listens(void **state) {
  const struct place *place = *state;
  struct error error = {0};
  char *text = NULL;
  int status = 0;
  assert_false(wake_is_heard(place->state));
  assert_false(wake_send(place->state));
  assert_int_equal(wake_reload(place->state, &status, &text, &error), ERROR_NOT_FOUND);
  /* One that was killed leaves its socket behind. */
  close(listen_at(place->state));
  assert_false(wake_send(place->state));
  assert_int_equal(wake_reload(place->state, &status, &text, &error), ERROR_NOT_FOUND);
  assert_non_null(strstr(error.message, "no daemon is at work"));
  CLEANUP_CLOSE int next = listen_at(place->state);
  assert_true(wake_send(place->state));
}

static void test_wake__only_the_owner_may(void **state) {
  const struct place *place = *state;
  CLEANUP_FREE char *path = wake_path(place->state);
  CLEANUP_CLOSE int daemon = listen_at(place->state);
  struct stat status;
  assert_int_equal(stat(path, &status), 0);
  assert_int_equal(status.st_mode & 07777, 0600);
  assert_true(daemon >= 0);
}

static void test_wake__what_is_no_word_is_none(void **state) {
  const struct place *place = *state;
  CLEANUP_CLOSE int daemon = listen_at(place->state);
  char large[4096];
  struct wake_asker asker;
  enum wake_word word;
  memset(large, 'x', sizeof large);
  say(place->state, "", 0);
  say(place->state, large, sizeof large);
  say(place->state, "dkimroll turn 2", 15);
  say(place->state, "dkimroll turn 1\n", 16);
  say(place->state, "dkimroll turn", 13);
  say(place->state, "dkimroll reload 1\0and more", 26);
  for (int i = 0; i < 6; i++) {
    assert_true(wake_receive(daemon, &word, &asker));
    assert_int_equal(word, WAKE_NONE);
  }
  assert_false(wake_receive(daemon, &word, &asker));
}

/* A deep folder: an address of a socket has room for 107 octets. */
static void test_wake__a_long_path_is_no_obstacle(void **state) {
  const struct place *place = *state;
  char name[101];
  memset(name, 'n', 100);
  name[100] = '\0';
  CLEANUP_FREE char *folder = workplace_path(&place->folder, name);
  assert_int_equal(mkdir(folder, 0700), 0);
  CLEANUP_FREE char *deep = text_format("%s/state.db", folder);
  CLEANUP_CLOSE int daemon = listen_at(deep);
  struct wake_asker asker;
  enum wake_word word;
  assert_true(wake_send(deep));
  assert_true(wake_receive(daemon, &word, &asker));
  assert_int_equal(word, WAKE_TURN);
}

/* A daemon for one reload: noise first, from others, then the answer by another socket, as the next life's. */
static void answer_once(int daemon, const char *text, int status) {
  struct wake_asker asker;
  enum wake_word word;
  struct pollfd polled = {.fd = daemon, .events = POLLIN};
  if (poll(&polled, 1, 10000) != 1 || !wake_receive(daemon, &word, &asker) || word != WAKE_RELOAD || asker.size == 0) _exit(1);
  const int other = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (sendto(other, "nonsense", 8, 0, (const struct sockaddr *)&asker.address, asker.size) != 8) _exit(2);
  if (sendto(other, "999\nno status", 13, 0, (const struct sockaddr *)&asker.address, asker.size) != 13) _exit(3);
  wake_answer(other, &asker, status, text);
  _exit(0);
}

static void test_wake__a_reload_is_answered(void **state) {
  const struct place *place = *state;
  struct error error = {0};
  CLEANUP_FREE char *text = NULL;
  int status = 0, ended = 0;
  CLEANUP_CLOSE int daemon = listen_at(place->state);
  const pid_t pid = fork();
  if (pid == 0) answer_once(daemon, "policy.yaml:3:7: wrong\npolicy.yaml:4:7: wrong too\n", 78);
  if (wake_reload(place->state, &status, &text, &error)) fail_msg("%s", error.message);
  assert_int_equal(status, 78);
  assert_string_equal(text, "policy.yaml:3:7: wrong\npolicy.yaml:4:7: wrong too\n");
  assert_int_equal(waitpid(pid, &ended, 0), pid);
  assert_int_equal(ended, 0);
}

static void test_wake__an_asker_that_is_gone_is_no_trouble(void **state) {
  const struct place *place = *state;
  CLEANUP_CLOSE int daemon = listen_at(place->state);
  struct wake_asker asker = {.address = {.sun_family = AF_UNIX, .sun_path = {'\0', 'x', 'y'}}, .size = sizeof(sa_family_t) + 3};
  wake_answer(daemon, &asker, 0, "for nobody");
  asker.size = 0;
  wake_answer(daemon, &asker, 0, "for nobody");
}

static void test_wake__who_is_at_work_stands_in_the_lock(void **state) {
  const struct place *place = *state;
  char holder[64];
  CLEANUP_FREE char *lock = text_format("%s.lock", place->state);
  assert_false(wake_read_holder(place->state, holder, sizeof holder));
  workplace_write(lock, "", 0600);
  assert_false(wake_read_holder(place->state, holder, sizeof holder));
  workplace_write(lock, "dkimroll daemon, pid 1, since \033[31mthen\nmore", 0600);
  assert_true(wake_read_holder(place->state, holder, sizeof holder));
  assert_true(text_starts(holder, "dkimroll daemon, pid 1, since "));
  assert_null(strchr(holder, '\033'));
  assert_null(strchr(holder, '\n'));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_wake__a_turn_is_asked_for, setup, teardown),
      cmocka_unit_test_setup_teardown(test_wake__nobody_listens, setup, teardown),
      cmocka_unit_test_setup_teardown(test_wake__only_the_owner_may, setup, teardown),
      cmocka_unit_test_setup_teardown(test_wake__what_is_no_word_is_none, setup, teardown),
      cmocka_unit_test_setup_teardown(test_wake__a_long_path_is_no_obstacle, setup, teardown),
      cmocka_unit_test_setup_teardown(test_wake__a_reload_is_answered, setup, teardown),
      cmocka_unit_test_setup_teardown(test_wake__an_asker_that_is_gone_is_no_trouble, setup, teardown),
      cmocka_unit_test_setup_teardown(test_wake__who_is_at_work_stands_in_the_lock, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
