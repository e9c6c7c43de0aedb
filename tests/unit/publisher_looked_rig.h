/* A publisher for a zone that takes no updates, of either type, over a virtual loop and models: of the zone's servers, and of somebody else's tool or reload. Faults are switched on by fields. */
#ifndef DKIMROLL_TESTS_PUBLISHER_LOOKED_RIG_H
#define DKIMROLL_TESTS_PUBLISHER_LOOKED_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dkimroll/publisher.h"
#include "dkimroll/runner.h"
#include "dkimroll/runner_fragment.h"
#include "workplace.h"

enum { RIG_SERVERS = 2, RIG_NAMES_MAX = 64, RIG_ITEMS_MAX = 64, RIG_WAIT_SECONDS = 30, RIG_WALL = 1800000000 };
#define RIG_ZONE "example.com"
#define RIG_NAME "s1._domainkey.example.com"

/* What the tool or the reload does. */
enum rig_tool { TOOL_OBEYS = 0, TOOL_LIES, TOOL_FAILS, TOOL_FAILS_FOR_NOW, TOOL_HANGS };

/* One name: what the provider has, and since when; servers follow after their lag. */
struct rig_name {
  char name[DNS_NAME_TEXT_SIZE];
  char now[64], before[64]; /* "": nothing */
  int64_t changed;
};

struct rig {
  const char *type; /* "command" or "zonefile" */
  struct workplace folder;
  struct loop *loop;
  struct policy *policy;
  struct observer observer;
  struct keeper runner;
  struct runner_zonefiles zonefiles;
  struct publisher *publisher;
  struct publisher_source source;
  struct rig_name names[RIG_NAMES_MAX];
  size_t name_count;
  enum rig_tool tool;
  int64_t lag[RIG_SERVERS]; /* ms */
  bool down[RIG_SERVERS];
  const char *says[RIG_SERVERS]; /* a server that says this of every name */
  bool wildcard;
  unsigned calls, open, most, reloads, writes;
  char actions[256]; /* "add NAME;" of each call */
  struct publish_item items[RIG_ITEMS_MAX];
  char item_names[RIG_ITEMS_MAX][64]; /* of rig_fill */
  struct publish_result results[RIG_ITEMS_MAX];
  size_t count;
  unsigned done;
  struct publish_operation *operation;
};

void rig_open(struct rig *rig, const char *type);
void rig_close(struct rig *rig);
/* Calls test for both types, each with an empty fragment: where there is none, one is made only by who knows what belongs there. */
void rig_with_both(void (*test)(struct rig *rig));
bool rig_is_command(const struct rig *rig);
/* What the provider has there; "": nothing. */
void rig_set_name(struct rig *rig, const char *name, const char *record);
/* What the provider has at RIG_NAME is record. */
void rig_assert_stands(struct rig *rig, const char *record);
/* The fragment as somebody left it. */
void rig_set_fragment(struct rig *rig, const char *text);
/* NULL: none is there. Caller frees. */
char *rig_get_fragment(struct rig *rig);
/* So many additions, each at a name of its own: n0._domainkey, n1._domainkey, ... */
void rig_fill(struct rig *rig, size_t count);
/* Starts an operation on the items. */
void rig_begin(struct rig *rig);
/* Takes its results over and stops the loop: the callback of operations that a test starts itself. */
void rig_finished(void *context, const struct publish_result *results, size_t count);
/* From the beginning to the end. */
void rig_perform(struct rig *rig);
/* What is left of jobs whose operation is gone. */
void rig_drain(struct rig *rig);
/* One item at RIG_NAME; the result's code. */
int rig_publish(struct rig *rig, enum publish_change change, const char *record, const char *before);

#endif
