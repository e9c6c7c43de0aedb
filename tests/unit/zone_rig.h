/* A finder of zones in the small internet of fake_internet.h, one search after the other, and what the last one found. */
#ifndef DKIMROLL_TESTS_ZONE_RIG_H
#define DKIMROLL_TESTS_ZONE_RIG_H

#include "fake_internet.h"

#include "dkimroll/zone.h"

#define NAME "sel._domainkey.example.com"
#define KEYS "192.0.2.14"

enum { DEADLINE_MS = 60000, MANY = 2000 };

struct stage {
  struct world *world;
  struct zone_finder *finder;
  struct policy_publisher publisher;
  struct zone_answer answer; /* of the last search; servers point to the array below */
  struct zone_server servers[ZONE_SERVERS_MAX];
  size_t done, failed, stop_at;
  bool free_finder;
};

int zone_rig_setup(void **state);
int zone_rig_teardown(void **state);

/* What a search calls when it is done; context is the stage. */
void note_found(void *context, const struct zone_answer *answer);
/* A search for the servers of name; it is done when the loop runs. */
void begin_search(struct stage *stage, const char *name, int64_t deadline, struct zone_search **ret_search);
/* Until so many searches are done as stop_at says. */
void run_loop(struct stage *stage);

/* One search to its end: for the servers of a name, the same with a zone of the policy, and for the primary alone. */
void find_name(struct stage *stage, const char *name);
void find_known(struct stage *stage, const char *name, const char *known_zone);
void find_primary(struct stage *stage, const char *name);
/* For the servers of NAME, which lies in example.com. */
void find_example(struct stage *stage);

void assert_found(const struct stage *stage, const char *zone, const char *owner);
void assert_failed(const struct stage *stage, int code, const char *part);
/* address NULL: one whose address is not known. */
bool has_server(const struct stage *stage, const char *host, const char *address);

/* _domainkey.example.com becomes a zone of its own, at KEYS. */
void delegate_domainkey(struct world *world);

#define TEST(name) cmocka_unit_test_setup_teardown(name, zone_rig_setup, zone_rig_teardown)

#endif
