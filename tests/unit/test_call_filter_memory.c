/* The filter of system calls while memory runs out in libseccomp, at every place. Not with sanitizers, which have an allocator of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>

#include "dkimroll/call_filter.h"
#include "forked.h"
#include "own_allocator.h"

enum { ALLOCATIONS_MAX = 100000 };

/* How an installation ends in a child of its own whose nth allocation fails: its exit status, or the signal that ended it, negative. Without a fault (0) the child tells how many there are. */
static int install(unsigned long nth, unsigned long *ret_allocations) {
  int ends[2], status = 0;
  assert_int_equal(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    struct error error = {0};
    signal(SIGSEGV, SIG_DFL); /* where libseccomp does not look at what it was given */
    allocator_begin(nth);
    const int result = call_filter_install(&error);
    allocation_fails_at = 0;
    if (write(ends[1], &allocations, sizeof allocations) != sizeof allocations) _exit(2);
    _exit(result == 0 ? 0 : 1);
  }
  assert_true(child > 0 && waitpid(child, &status, 0) == child);
  close(ends[1]);
  if (ret_allocations) assert_int_equal(read(ends[0], ret_allocations, sizeof *ret_allocations), sizeof *ret_allocations);
  close(ends[0]);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* libseccomp 2.5 goes round for ever at some of them: the process must end. One that is ended so is enough, since each takes its second of a processor. */
static void test_call_filter__want_of_memory_ends_it_and_never_keeps_it_busy(void **state) {
  (void)state;
  unsigned long count = 0;
  assert_int_equal(install(0, &count), 0);
  assert_in_range(count, 1, ALLOCATIONS_MAX);
  for (unsigned long nth = 1; nth <= count; nth++) {
    const int end = install(nth, NULL);
    assert_true(end == 0 || end == 1 || end == -SIGSEGV || end == -SIGVTALRM);
    if (end == -SIGVTALRM) break;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_call_filter__want_of_memory_ends_it_and_never_keeps_it_busy),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
