#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_socket.h"
#include "dkimroll/text.h"
#include "forked.h"
#include "workplace.h"

enum { NOBODY = 65534, HANDED_OVER = 3 }; /* SD_LISTEN_FDS_START */

struct fixture {
  struct workplace workplace;
  char *path;
  int listener;
};

static int set_up(void **state) {
  struct fixture *fixture = calloc(1, sizeof *fixture);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  workplace_make(&fixture->workplace, "/tmp");
  fixture->path = workplace_path(&fixture->workplace, "keeper.sock");
  text_copy(address.sun_path, sizeof address.sun_path, fixture->path);
  fixture->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fixture->listener, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(listen(fixture->listener, 8), 0);
  assert_int_equal(chmod(fixture->path, 0666), 0);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  if (fixture->listener >= 0) close(fixture->listener);
  workplace_remove(&fixture->workplace);
  free(fixture->path);
  free(fixture);
  return 0;
}

static void test_keeper_socket__a_keeper_that_is_not_there_is_told_with_a_remedy(void **state) {
  struct fixture *fixture = *state;
  struct error error = {0};
  int descriptor = -1;
  close(TAKE_FD(fixture->listener));
  assert_int_equal(keeper_socket_connect(fixture->path, &descriptor, &error), ERROR_UNREACHABLE);
  assert_non_null(strstr(error.remedy, "dkimroll-keeper.socket"));
  unlink(fixture->path);
  assert_int_equal(keeper_socket_connect(fixture->path, &descriptor, &error), ERROR_NOT_FOUND);
  assert_int_equal(descriptor, -1);
}

static void test_keeper_socket__a_path_that_no_socket_can_have_is_refused(void **state) {
  (void)state;
  char path[200] = "/";
  struct error error = {0};
  int descriptor = -1;
  memset(path + 1, 'x', sizeof path - 2);
  assert_int_equal(keeper_socket_connect(path, &descriptor, &error), ERROR_LIMIT);
}

static int connect_as_nobody(const void *context) {
  const struct fixture *fixture = context;
  struct error error = {0};
  int descriptor = -1;
  FORKED_EXPECT(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
  FORKED_EXPECT(keeper_socket_connect(fixture->path, &descriptor, &error) == 0);
  return 0;
}

static void test_keeper_socket__who_is_connected_is_who_connected(void **state) {
  struct fixture *fixture = *state;
  struct error error = {0};
  int ours = -1;
  assert_int_equal(keeper_socket_connect(fixture->path, &ours, &error), 0);
  CLEANUP_CLOSE int own = accept(fixture->listener, NULL, NULL);
  close(ours);
  assert_int_equal(keeper_socket_check_peer(own, NULL, &error), 0);
  if (geteuid() != 0) skip();
  assert_int_equal(forked(connect_as_nobody, fixture), 0);
  CLEANUP_CLOSE int other = accept(fixture->listener, NULL, NULL);
  assert_int_equal(keeper_socket_check_peer(other, "dkimroll-no-such-user", &error), ERROR_PERMISSION);
  assert_non_null(strstr(error.message, "65534"));
  assert_int_equal(keeper_socket_check_peer(other, NULL, &error), ERROR_PERMISSION);
  assert_int_equal(keeper_socket_check_peer(other, "root", &error), ERROR_PERMISSION);
  assert_int_equal(keeper_socket_check_peer(other, "nobody", &error), 0);
}

static void test_keeper_socket__a_descriptor_that_is_no_socket_has_no_peer(void **state) {
  (void)state;
  struct error error = {0};
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  assert_true(keeper_socket_check_peer(ends[0], NULL, &error) < 0);
  close(ends[0]);
  close(ends[1]);
}

/* As systemd hands it over: number 3, named by two variables. */
static void hand_over(int descriptor, const char *count) {
  char pid[32];
  snprintf(pid, sizeof pid, "%d", (int)getpid());
  if (descriptor != HANDED_OVER) dup2(descriptor, HANDED_OVER);
  setenv("LISTEN_PID", pid, 1);
  setenv("LISTEN_FDS", count, 1);
}

static int take_connection(const void *unused) {
  (void)unused;
  struct error error = {0};
  int ends[2];
  int descriptor = -1;
  FORKED_EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  hand_over(ends[0], "1");
  FORKED_EXPECT(keeper_socket_take(&descriptor, &error) == 0 && descriptor == HANDED_OVER);
  FORKED_EXPECT((fcntl(descriptor, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0);
  FORKED_EXPECT(!getenv("LISTEN_FDS")); /* no program that is started takes it for its own */
  return 0;
}

static int take_listener(const void *context) {
  const struct fixture *fixture = context;
  struct error error = {0};
  int descriptor = -1;
  hand_over(fixture->listener, "1");
  FORKED_EXPECT(keeper_socket_take(&descriptor, &error) == ERROR_INVALID && strstr(error.remedy, "Accept=yes"));
  return 0;
}

static int take_datagrams(const void *unused) {
  (void)unused;
  struct error error = {0};
  int ends[2];
  int descriptor = -1;
  FORKED_EXPECT(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
  hand_over(ends[0], "1");
  FORKED_EXPECT(keeper_socket_take(&descriptor, &error) == ERROR_INVALID);
  return 0;
}

static int take_two(const void *unused) {
  (void)unused;
  struct error error = {0};
  int ends[2];
  int descriptor = -1;
  FORKED_EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  hand_over(ends[0], "2");
  dup2(ends[1], HANDED_OVER + 1);
  FORKED_EXPECT(keeper_socket_take(&descriptor, &error) == ERROR_INVALID);
  return 0;
}

static int take_nothing(const void *unused) {
  (void)unused;
  struct error error = {0};
  int descriptor = -1;
  unsetenv("LISTEN_FDS");
  FORKED_EXPECT(keeper_socket_take(&descriptor, &error) == ERROR_INVALID && strstr(error.message, "no connection"));
  return 0;
}

static void test_keeper_socket__one_accepted_connection_is_taken_and_nothing_else(void **state) {
  assert_int_equal(forked(take_connection, NULL), 0);
  assert_int_equal(forked(take_listener, *state), 0);
  assert_int_equal(forked(take_datagrams, NULL), 0);
  assert_int_equal(forked(take_two, NULL), 0);
  assert_int_equal(forked(take_nothing, NULL), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_keeper_socket__a_keeper_that_is_not_there_is_told_with_a_remedy, set_up, tear_down),
      cmocka_unit_test(test_keeper_socket__a_path_that_no_socket_can_have_is_refused),
      cmocka_unit_test_setup_teardown(test_keeper_socket__who_is_connected_is_who_connected, set_up, tear_down),
      cmocka_unit_test(test_keeper_socket__a_descriptor_that_is_no_socket_has_no_peer),
      cmocka_unit_test_setup_teardown(test_keeper_socket__one_accepted_connection_is_taken_and_nothing_else, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
