/* What looks at the servers of a zone say about a change that is to be made there, or was made. */
#include <string.h>

#include "dkimroll/publisher_looked.h"
#include "dkimroll/text.h"

static bool serves(const struct observe_server *server, const char *record) {
  return record && server->served && server->served_size == strlen(record) && memcmp(server->served, record, server->served_size) == 0;
}

static bool answered(const struct observe_server *server) { return server->verdict == OBSERVE_RIGHT || server->verdict == OBSERVE_WRONG; }

/* Notes what the server has at the name; false: something that belongs to somebody else. A survey is right where the name is as any other that nobody made. */
static bool note_server(struct looked_item *item, const struct observe_server *server) {
  const struct publish_item *change = item->change;
  struct looked_stand *stand = &item->stand;
  if (server->verdict == OBSERVE_RIGHT || server->nothing)
    stand->nothing = true;
  else if (serves(server, change->record))
    stand->wanted = true;
  else if (serves(server, change->record_before))
    stand->before = true;
  else if (serves(server, change->record_also))
    stand->also = true;
  else
    return false;
  return true;
}

static void fail_conflict(struct looked_item *item, const struct observe_result *found, const struct observe_server *server) {
  struct error *error = &item->result->error;
  error_set(error, ERROR_CONFLICT, "something else stands at %s: %s (%s) says %s", found->owner, server->host, server->address, server->answer);
  error_remedy(error, "find out whose record it is; dkimroll changes only what it made for this key");
}

/* ERROR_TIMEOUT with what the first server said. */
static void fail_silent(struct looked_item *item, const struct observe_result *found) {
  struct error *error = &item->result->error;
  error_set(error, ERROR_TIMEOUT, "no authoritative server of %s answers%s%s", found->zone, found->server_count ? ": " : "",
            found->server_count ? found->servers[0].answer : "");
  error_remedy(error, "check that the name servers are up and reachable from here, and servers and ignore-servers of the publisher");
}

bool looked_shows_nothing(const struct looked_item *item) { return !item->stand.before && !item->stand.also; }

/* Whether the change is there already. What a file of ours still has comes back with the next reload, whatever servers show now. */
static bool is_there(const struct looked_item *item, const struct looked_maker *maker) {
  const struct looked_stand *stand = &item->stand;
  if (item->change->change == PUBLISH_DELETE) return !maker->keeps_file && looked_shows_nothing(item);
  return stand->wanted && !stand->before && !stand->nothing;
}

void looked_judge_survey(struct looked_item *item, const struct observe_result *found, const struct looked_maker *maker, int64_t now) {
  struct publish_result *result = item->result;
  const struct observe_server *foreign = NULL;
  bool any = false;
  item->ended = true;
  result->error = found->error;
  if (found->error.code) return;
  text_copy(result->zone, sizeof(result->zone), found->zone);
  text_copy(result->owner, sizeof(result->owner), found->owner);
  for (size_t i = 0; i < found->server_count && !foreign; i++) {
    if (!answered(&found->servers[i])) continue;
    any = true;
    if (!note_server(item, &found->servers[i])) foreign = &found->servers[i];
  }
  if (foreign) {
    fail_conflict(item, found, foreign);
  } else if (!any) {
    fail_silent(item, found);
  } else if (is_there(item, maker)) {
    result->already = true;
    result->completed_at = now;
  } else {
    item->ended = false;
  }
}

bool looked_judge_watch(struct looked_item *item, const struct observe_result *found) {
  if (found->error.code) return false;
  for (size_t i = 0; i < found->server_count; i++) {
    if (found->servers[i].verdict != OBSERVE_RIGHT) continue;
    item->result->completed_at = found->servers[i].at;
    item->ended = true;
    return true;
  }
  return false;
}

void looked_explain_unseen(struct looked_item *item, const struct observe_result *found, const struct looked *owner) {
  struct error *error = &item->result->error;
  char wait[DURATION_TEXT_SIZE];
  const struct observe_server *server = NULL;
  item->ended = true;
  *error = found->error;
  if (error->code) return;
  for (size_t i = 0; i < found->server_count && !server; i++)
    if (answered(&found->servers[i])) server = &found->servers[i];
  if (!server) {
    fail_silent(item, found);
    return;
  }
  error_set(error, ERROR_TIMEOUT, "publisher %s: it said that the change of %s was made, but no server shows it after %s: %s (%s) says %s", owner->policy->name,
            found->owner, duration_format(owner->policy->wait, wait), server->host, server->address, server->answer);
  error_retryable(error, false);
  error_remedy(error, "%s", owner->maker->unseen);
}
