/* A worker whose OpenSSL is of no use says why, and ends: another may do better. Nothing of OpenSSL has begun in this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_frame.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/openssl_memory.h"
#include "workplace.h"

static int answer(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)request, (void)error;
  buffer_add_text(reply, "done");
  return 0;
}

static pid_t start_worker(const char *configuration, int *ret_descriptor) {
  static const struct keeper_handler handler = {.job = KEEPER_READ_PUBLIC, .run = answer};
  static const struct keeper_handlers handlers = {&handler, 1, openssl_begin};
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    close(ends[0]);
    if (configuration) setenv("OPENSSL_CONF", configuration, 1);
    _exit(keeper_worker_run(ends[1], &handlers));
  }
  close(ends[1]);
  *ret_descriptor = ends[0];
  return pid;
}

/* The result of one job; false: the worker ended without an answer. */
static bool ask(int descriptor, struct error *ret_result) {
  CLEANUP(buffer_release) struct buffer octets = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  CLEANUP(buffer_release) struct buffer frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  enum keeper_progress progress = KEEPER_PARTIAL;
  struct keeper_frame reply;
  struct error error = {0};
  assert_int_equal(keeper_frame_write(1, KEEPER_READ_PUBLIC, "", 0, &frame, &error), 0);
  if (send(descriptor, frame.data, frame.size, MSG_NOSIGNAL) != (ssize_t)frame.size) return false;
  while (progress == KEEPER_PARTIAL) assert_int_equal(keeper_frame_receive(descriptor, &octets, &progress, &error), 0);
  if (progress == KEEPER_ENDED) return false;
  assert_int_equal(keeper_frame_read(&octets, &reply, &error), 0);
  assert_int_equal(keeper_reply_read(&reply.payload, ret_result, &error), 0);
  return true;
}

static int end_of(pid_t pid) {
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void test_keeper_worker__one_without_use_of_openssl_says_so_and_ends(void **state) {
  (void)state;
  CLEANUP(workplace_remove) struct workplace workplace;
  workplace_make(&workplace, "/tmp");
  CLEANUP_FREE char *path = workplace_path(&workplace, "openssl.cnf");
  struct error result = {0};
  int descriptor = -1;
  workplace_write(path, "openssl_conf = begin\n[begin]\nproviders = named\n[named]\nnull = nothing\n[nothing]\nactivate = 1\n", 0644);
  const pid_t pid = start_worker(path, &descriptor);
  assert_true(ask(descriptor, &result));
  assert_int_equal(result.code, ERROR_SYSTEM);
  assert_non_null(strstr(result.message, "OpenSSL cannot begin"));
  assert_non_null(strstr(result.remedy, "openssl.cnf"));
  assert_int_equal(end_of(pid), EXIT_FAILURE);
  close(descriptor);
}

static void test_keeper_worker__any_other_does_one_job_after_the_other(void **state) {
  (void)state;
  struct error result = {0};
  int descriptor = -1;
  const pid_t pid = start_worker(NULL, &descriptor);
  for (int i = 0; i < 3; i++) {
    assert_true(ask(descriptor, &result));
    assert_int_equal(result.code, 0);
  }
  close(descriptor);
  assert_int_equal(end_of(pid), EXIT_SUCCESS);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_keeper_worker__one_without_use_of_openssl_says_so_and_ends),
      cmocka_unit_test(test_keeper_worker__any_other_does_one_job_after_the_other),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
