/* Linked into the coverage build alone: what a process has run is written when it ends by _exit, too, as the keeper's processes do, and where Landlock would
 * not let it be written. */
#include "dkimroll/landlock.h"

extern void __gcov_dump(void);
extern void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));
extern int __real_landlock_enforce(struct landlock *landlock, struct error *error);
int __wrap_landlock_enforce(struct landlock *landlock, struct error *error);

void __wrap__exit(int status) {
  __gcov_dump();
  __real__exit(status);
}

int __wrap_landlock_enforce(struct landlock *landlock, struct error *error) {
  const int result = landlock_allow(landlock, COVERAGE_FOLDER, LANDLOCK_ALL, error);
  return result < 0 ? result : __real_landlock_enforce(landlock, error);
}
