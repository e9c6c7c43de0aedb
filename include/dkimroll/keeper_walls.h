/* What the keeper takes away from itself before its first job, whoever it runs as, and the job that tells what stands of it. */
#ifndef DKIMROLL_KEEPER_WALLS_H
#define DKIMROLL_KEEPER_WALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dkimroll/keeper.h"

/* Filled in before the keeper begins; the rest by keeper_walls_raise. Borrowed for ever. */
struct keeper_walls {
  const char *const *writable; /* directories in and below which files may be written: of keys, tables and archives */
  size_t writable_count;
  bool raised;
  int landlock_abi;     /* 0: the kernel has no Landlock */
  struct error problem; /* code 0: all that the kernel offers stands */
};

/* In the keeper's process: system calls are filtered (call_filter.h), and files can be written only below walls->writable, in temporary
 * directories and at /dev/null (Landlock). A wall that cannot be raised is noted in walls->problem and the keeper works on without it:
 * mail must not stop because a kernel or a container lacks one of them. */
void keeper_walls_raise(struct keeper_walls *walls);

/* What a worker is, found out by itself. */
struct keeper_walls_report {
  uint32_t user;
  uint64_t capabilities;
  bool network;     /* it could make a socket of AF_INET */
  uint32_t landlock_abi;
  char problem[ERROR_MESSAGE_MAX]; /* empty: none */
};

/* The handler of KEEPER_WALLS, whose request is empty; walls is borrowed for ever. And the reader of its reply: ERROR_PROTOCOL. */
struct keeper_handler keeper_walls_handler(const struct keeper_walls *walls);
int keeper_walls_read(const uint8_t *reply, size_t reply_size, struct keeper_walls_report *ret_report,
                      struct error *error) ERROR_USE_RESULT;

#endif
