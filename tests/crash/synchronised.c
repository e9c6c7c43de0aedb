/* Preloaded: the kernel says that its clock is synchronised (adjtimex(2)), as that of a host with a time service does, and that of a container may not. */
#include <stddef.h>
#include <string.h>
#include <sys/timex.h>

int adjtimex(struct timex *state) {
  memset(state, 0, sizeof *state);
  return TIME_OK;
}
