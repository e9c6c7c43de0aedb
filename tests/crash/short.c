/* short.so, for LD_PRELOAD: memory runs out once. In the process and all that it forks together, the allocation whose number is in SHORT_AT fails, whoever asks
 * for it: dkimroll, the C library, OpenSSL, SQLite, libyaml, ldns, systemd. It fails once; what comes after succeeds. SHORT_CALLS names a file that gets the number of
 * allocations, when the first process ends. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The C library's own, by the names that it keeps for those who replace malloc. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static _Atomic unsigned long *calls; /* shared with forked processes; NULL before main begins */
static unsigned long fail_at;
static pid_t first;
static int counted = -1; /* the file of SHORT_CALLS, opened before the program gives up the right to */

__attribute__((constructor)) static void short_begin(void) {
  const char *at = getenv("SHORT_AT");
  fail_at = at ? strtoul(at, NULL, 10) : 0;
  first = getpid();
  void *page = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page != MAP_FAILED) calls = page;
  const char *path = getenv("SHORT_CALLS");
  counted = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
}

__attribute__((destructor)) static void short_end(void) {
  char text[32];
  if (counted < 0 || !calls || getpid() != first) return;
  const int size = snprintf(text, sizeof text, "%lu\n", atomic_load(calls));
  if (ftruncate(counted, 0) < 0 || pwrite(counted, text, (size_t)size, 0) != size) _exit(1);
}

static int runs_out(void) {
  if (!calls || atomic_fetch_add(calls, 1) + 1 != fail_at) return 0;
  errno = ENOMEM;
  return 1;
}

void *malloc(size_t size) { return runs_out() ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return runs_out() ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return runs_out() ? NULL : __libc_realloc(old, size); }
void *aligned_alloc(size_t alignment, size_t size) { return runs_out() ? NULL : __libc_memalign(alignment, size); }
void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size) { return runs_out() ? NULL : __libc_memalign(alignment, size); }
int posix_memalign(void **ret, size_t alignment, size_t size) {
  void *memory = runs_out() ? NULL : __libc_memalign(alignment, size);
  if (memory) *ret = memory;
  return memory ? 0 : ENOMEM;
}
