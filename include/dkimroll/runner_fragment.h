/* The runner's job on fragments of zones (zone_fragment.h): reads the file, edits it, writes it anew, all under a lock of its directory. Paths, owner and mode are the policy's; the loop side names publisher, zone and
 * records, and no text of the file. */
#ifndef DKIMROLL_RUNNER_FRAGMENT_H
#define DKIMROLL_RUNNER_FRAGMENT_H

#include "dkimroll/keeper.h"
#include "dkimroll/policy.h"
#include "dkimroll/zone_fragment.h"

enum { RUNNER_EDITS_MAX = FRAGMENT_RECORDS_MAX };

/* A publisher that writes fragments. */
struct runner_zonefile {
  char *name;  /* owned */
  char *file;  /* owned; template with %z */
  char *owner; /* owned; NULL: the runner's own */
  char *zone;  /* owned; the only zone that it writes; NULL: any */
  mode_t mode;
};
struct runner_zonefiles {
  struct runner_zonefile *items; /* owned */
  size_t count;
};

/* All publishers of that type in policy. ERROR_NO_MEMORY. */
int runner_zonefiles_allow(struct runner_zonefiles *zonefiles, const struct policy *policy, struct error *error) ERROR_USE_RESULT;
void runner_zonefiles_release(struct runner_zonefiles *zonefiles);

/* The handler of KEEPER_WRITE_FRAGMENT; zonefiles is borrowed for ever. */
struct keeper_handler runner_fragment_handler(const struct runner_zonefiles *zonefiles);

struct runner_fragment_call {
  const char *publisher;
  const char *zone; /* lower case, without the final dot */
  bool make;        /* a file that is missing or holds no record is written: edits say all that belongs there. Else it fails with ERROR_NOT_FOUND, because a file that was lost must not come
                       back with a part of its records: the name server still has all of them in memory, and would read it. An empty file does without, if what belongs there is not known, or is nothing */
  bool take_empty;  /* a file without a record is good enough, also without make */
  const struct fragment_edit *edits;
  size_t count;
};
void runner_fragment_write(struct buffer *payload, const struct runner_fragment_call *call);

/* What became of it: errors[i] of edit i (code 0: it is in the file now). Edits that fail keep no other back. */
struct runner_fragment_reply {
  char *path;           /* owned */
  bool changed;         /* the file was written anew */
  struct error *errors; /* owned; count of them */
  size_t count;
};
/* Caller releases. ERROR_PROTOCOL, ERROR_NO_MEMORY. */
int runner_fragment_read(const uint8_t *reply, size_t reply_size, struct runner_fragment_reply *ret_reply, struct error *error) ERROR_USE_RESULT;
void runner_fragment_reply_release(struct runner_fragment_reply *reply);

#endif
