/* What the files of the engine's world share; tests know engine_world.h only. */
#ifndef DKIMROLL_TESTS_ENGINE_WORLD_PARTS_H
#define DKIMROLL_TESTS_ENGINE_WORLD_PARTS_H

#include "engine_world.h"

/* The world whose field the pointer points at. */
#define WORLD_OF(pointer, field) ((struct world *)((char *)(uintptr_t)(pointer)-offsetof(struct world, field)))

/* An operation of a back end that waits for its answer. */
struct world_pending {
  struct world *world;
  struct loop_source *source;
  void (*answer)(struct world_pending *pending);
  const void *items;
  size_t count;
  int kind;
  int signer;
  const char *signer_name;
  void *done, *context;
};

/* The first one is remembered. */
void world_violate(struct world *world, const char *what, const char *name);
/* One callback of ours has run. */
void world_step(struct world *world);
/* A copy of template, answered at that moment (boottime). ret, of any operation's type, may be NULL. */
int world_pending_start(const struct world_pending *template, int64_t at, void *ret, struct error *error);
void world_pending_cancel(void *operation);

/* DNS: what that server says now; NULL: nothing. */
const char *world_name_at(const struct world *world, const struct world_name *name, int server);
struct world_name *world_name_of(struct world *world, const char *selector, const char *domain);
extern const struct observer_ops world_observer_ops;

/* For the factory; context is the world. */
int world_make_publisher(void *context, const struct policy_publisher *policy, struct publisher **ret_publisher, struct error *error);
int world_make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer, struct error *error);

#endif
