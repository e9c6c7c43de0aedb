/* Servers and zones of an update run: who may send next, and what happens when a server does not answer. */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "dkimroll/update_work.h"

static int compare_servers(const void *a, const void *b) {
  const struct update_server *left = a, *right = b;
  return strcmp(left->text, right->text);
}

static int compare_zones(const void *a, const void *b) {
  const struct update_zone *left = a, *right = b;
  if (left->server != right->server) return left->server < right->server ? -1 : 1;
  return strcmp(left->name, right->name);
}

void update_server_free(void *server) {
  struct update_server *gone = server;
  loop_cancel(gone->run->link.loop, &gone->pause);
  free(gone);
}

void update_zone_free(void *zone) {
  free(zone);
}

static struct update_server *server_get(struct update_run *run, const struct address *address) {
  struct update_server *server = calloc(1, sizeof *server);
  if (!server) return NULL;
  server->run = run;
  server->address = *address;
  address_format(address, server->text);
  TAILQ_INIT(&server->reads);
  TAILQ_INIT(&server->sendable);
  struct update_server **found = tsearch(server, &run->servers, compare_servers);
  if (found && *found == server) return server;
  free(server);
  return found ? *found : NULL;
}

struct update_zone *update_zone_get(struct update_run *run, const struct update_target *target) {
  struct update_server *server = server_get(run, &target->server);
  struct update_zone *zone = server ? calloc(1, sizeof *zone) : NULL;
  if (!zone) return NULL;
  zone->server = server;
  text_copy(zone->name, sizeof zone->name, target->zone);
  TAILQ_INIT(&zone->ready);
  struct update_zone **found = tsearch(zone, &run->zones, compare_zones);
  if (found && *found == zone) return zone;
  free(zone);
  return found ? *found : NULL;
}

/* A full message goes at once, another when nothing can join it any more. After a message of the zone failed its items go one message after the other: Knot
 * commits what is queued for a zone together, and one bad update makes the others fail. */
static bool zone_may_send(const struct update_zone *zone) {
  const struct update_item *first = TAILQ_FIRST(&zone->ready);
  if (!first || (zone->deciding > 0 && zone->ready_count < PUBLISH_RECORDS_MAX)) return false;
  return first->share == PUBLISH_RECORDS_MAX || zone->in_flight == 0;
}

void update_zone_check(struct update_zone *zone) {
  if (zone->queued || !zone_may_send(zone)) return;
  zone->queued = true;
  TAILQ_INSERT_TAIL(&zone->server->sendable, zone, next);
}

static bool send_next(struct update_server *server) {
  struct update_zone *zone = TAILQ_FIRST(&server->sendable);
  struct update_item *item = TAILQ_FIRST(&server->reads);
  if (zone) {
    TAILQ_REMOVE(&server->sendable, zone, next);
    zone->queued = false;
    if (zone_may_send(zone)) update_batch_send(zone);
    update_zone_check(zone);
  } else if (item) {
    update_item_dequeue(item);
    update_read_send(item);
  }
  return zone || item;
}

void update_server_pump(struct update_server *server) {
  if (server->pumping) return;
  server->pumping = true;
  while (!server->run->ending && !server->pause && server->in_flight < (server->answered ? UPDATE_WINDOW : 1) &&
         send_next(server)) {
  }
  server->pumping = false;
}

void update_server_answered(struct update_server *server, const struct update_reply *reply) {
  server->answered = true;
  server->attested = server->attested || reply->attested;
  if (reply->clock_known) {
    server->clock_known = true;
    server->clock_skew = reply->clock_skew;
  }
  server->failures = 0;
}

static void pause_over(void *context) {
  struct update_server *server = context;
  server->pause = NULL;
  update_server_pump(server);
}

void update_server_remedy(const struct update_server *server, struct error *error) {
  if (!error->remedy[0])
    error_remedy(error, "Check that the name server runs, and that firewalls let this host reach it by TCP at %s.",
                 server->text);
}

void update_server_trouble(struct update_server *server, const struct error *error) {
  struct update_run *run = server->run;
  server->trouble = *error;
  if (!strstr(error->message, server->text)) error_context(&server->trouble, "%s", server->text);
  update_server_remedy(server, &server->trouble);
  if (server->pause) return; /* what was in flight together fails together */
  server->answered = false;  /* the next request is a probe */
  server->failures++;
  int64_t pause = update_pause_ms(run, UPDATE_PAUSE_MS, UPDATE_PAUSE_MAX_MS, server->failures - 1);
  if (error->code == ERROR_NO_ROUTE || server->failures >= UPDATE_SERVER_ATTEMPTS_MAX ||
      loop_at(run->link.loop, loop_boottime(run->link.loop) + pause, pause_over, server, &server->pause) < 0)
    update_server_fail(server, &server->trouble);
}

/* Nothing is sent meanwhile: it would be for items whose turn to end comes next. */
static void fail_items(struct update_server *server, const struct update_zone *zone, const struct error *error) {
  struct error copy = *error; /* may belong to an item that ends first */
  bool pumping = server->pumping;
  server->pumping = true;
  for (size_t i = 0; i < server->run->count; i++) {
    struct update_item *item = &server->run->items[i];
    if (!item->zone || item->zone->server != server) continue;
    if (!zone || (item->zone == zone && item->phase < UPDATE_PHASE_SENT)) update_item_fail(item, &copy);
  }
  server->pumping = pumping;
  update_server_pump(server);
}

void update_server_fail(struct update_server *server, const struct error *error) {
  server->failures = 0; /* items that come later try again */
  fail_items(server, NULL, error);
}

void update_zone_fail(struct update_zone *zone, const struct error *error) {
  fail_items(zone->server, zone, error);
}
