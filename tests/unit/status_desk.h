/* A desk for the tests of `dkimroll status`. */
#ifndef DKIMROLL_TESTS_STATUS_DESK_H
#define DKIMROLL_TESTS_STATUS_DESK_H

#include "cli_desk.h"

static const char TWO[] = "  example.com:\n  example.org:\n";

/* Both domains have signed for 30 days. */
static inline void desk_make_signed(struct desk *desk) {
  desk_make(desk, TWO);
  desk_sync(desk);
  desk_edit(desk, "example.com", NULL, desk_live, NULL);
  desk_edit(desk, "example.org", NULL, desk_live, NULL);
}

/* The first key of a domain was published ago seconds ago, and one of its servers gave that answer a minute ago. */
static inline void desk_make_lagging(struct desk *desk, int64_t ago, const char *answer) {
  desk_make(desk, "  example.com:\n");
  desk_sync(desk);
  desk_edit(desk, "example.com", NULL, desk_publish, &ago);
  desk_edit(desk, "example.com", NULL, desk_confirm, &(struct desk_round){.at = desk->now - MINUTE, .answer = answer});
}

/* When the next key will be made, in *context (int64_t). */
static inline void desk_keep_generation(struct lineage *lineage, const struct desk *desk, void *context) {
  (void)desk;
  *(int64_t *)context = timing_generate(lineage, lineage_active_key(lineage));
}

#endif
