/* A system bus of our own, with a systemd on it. What that does with a unit is in the unit's name: missing, stopped, denied and failing are what they say,
 * restart cannot be reloaded, early ends its job before the reply is out, hanging never ends it, and busy ends it only when it was killed before; all
 * others (.service, each) do at once what they are asked. */
#ifndef DKIMROLL_TESTS_FAKE_SYSTEMD_H
#define DKIMROLL_TESTS_FAKE_SYSTEMD_H

#include <stdbool.h>
#include <sys/types.h>

#include "workplace.h"

struct bus {
  struct workplace folder;
  pid_t daemon, systemd;
};

/* The bus is the system bus of this process and of its children until bus_close. */
void bus_open(struct bus *bus, bool with_systemd);
void bus_close(struct bus *bus);

#endif
