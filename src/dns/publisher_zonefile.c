/* The publisher that writes a fragment of each zone, which the zone's own file includes, and has the name server read it again. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/publisher_looked.h"
#include "dkimroll/runner.h"
#include "dkimroll/runner_fragment.h"
#include "dkimroll/text.h"

enum { ZONES_AT_ONCE = 4 }; /* name servers read zones one after the other in any case */

/* One zone of an operation. */
struct zone_write {
  char *zone;     /* owned */
  char *path;     /* owned; NULL: not written yet */
  size_t *items;  /* owned; of operation->work */
  size_t count;
  bool complete;  /* all that the store knows goes along */
};

struct writes {
  struct zone_write *zones; /* owned */
  size_t count;
  size_t next; /* the first that was not begun */
  size_t open;
};

static void writes_next(struct publish_operation *operation);

/* ---- edits ---- */

/* Edits of a zone, and the texts of those that the store knows of. */
struct edits {
  struct fragment_edit *items; /* owned */
  size_t count, capacity;
  char **texts; /* owned */
  size_t text_count;
};

static void edits_release(struct edits *edits) {
  for (size_t i = 0; i < edits->text_count; i++) free(edits->texts[i]);
  free(edits->texts);
  free(edits->items);
}

static int edits_grow(struct edits *edits) {
  if (edits->count < edits->capacity) return 0;
  const size_t capacity = edits->capacity ? edits->capacity * 2 : 64;
  struct fragment_edit *items = reallocarray(edits->items, capacity, sizeof(*items));
  if (items) edits->items = items;
  char **texts = items ? reallocarray(edits->texts, 2 * capacity, sizeof(*texts)) : NULL;
  if (!texts) return ERROR_NO_MEMORY;
  edits->texts = texts;
  edits->capacity = capacity;
  return 0;
}

static int edits_add(struct edits *edits, const struct fragment_edit *edit) {
  if (edits_grow(edits)) return ERROR_NO_MEMORY;
  edits->items[edits->count++] = *edit;
  return 0;
}

/* One record that the store knows. */
static int edits_keep(void *context, const char *owner, uint32_t ttl, const char *record) {
  struct edits *edits = context;
  char *name = text_duplicate(owner);
  char *text = text_duplicate(record);
  const struct fragment_edit edit = {.change = FRAGMENT_KEEP, .name = name, .ttl = ttl, .record = text};
  if (!name || !text || edits_add(edits, &edit)) {
    free(name);
    free(text);
    return ERROR_NO_MEMORY;
  }
  edits->texts[edits->text_count++] = name;
  edits->texts[edits->text_count++] = text;
  return 0;
}

static enum fragment_change edit_change(enum publish_change change) {
  if (change == PUBLISH_DELETE) return FRAGMENT_DELETE;
  return change == PUBLISH_REPLACE ? FRAGMENT_REPLACE : FRAGMENT_ADD;
}

/* The items last: what the store says of a record is how it was before the operation, and a record that is to be deleted is named by both. */
static int collect_edits(const struct publish_operation *operation, const struct zone_write *write, struct edits *edits, struct error *error) {
  const struct publisher_source *source = operation->owner->publisher.source;
  int result = 0;
  if (write->complete) result = source->records(source->context, operation->owner->policy->name, write->zone, edits_keep, edits, error);
  if (result) return result;
  for (size_t i = 0; i < write->count && !result; i++) {
    const struct looked_item *item = &operation->work[write->items[i]];
    const struct publish_item *change = item->change;
    result = edits_add(edits, &(struct fragment_edit){.change = edit_change(change->change),
                                                      .name = item->result->owner,
                                                      .ttl = change->ttl,
                                                      .record = change->record,
                                                      .record_before = change->record_before,
                                                      .record_also = change->record_also});
  }
  return result ? error_set(error, ERROR_NO_MEMORY, "publishing zone %s: out of memory", write->zone) : 0;
}

/* ---- a zone's end ---- */

/* error code 0: its items are made. Those that ended before stay as they are. */
static void zone_ended(struct publish_operation *operation, struct zone_write *write, const struct error *error) {
  for (size_t i = 0; i < write->count; i++) looked_made(operation, write->items[i], error);
}

static void zone_end(struct publish_operation *operation) {
  struct writes *writes = operation->making;
  writes->open--;
  writes_next(operation);
}

static void reloaded(struct publish_operation *operation, size_t index, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct zone_write *write = &((struct writes *)operation->making)->zones[index];
  struct error error = {0};
  CLEANUP_FREE char *what = text_format("publisher %s: reload of zone %s", operation->owner->policy->name, write->zone);
  (void)!looked_judge(result, reply, reply_size, what ? what : "reload", &error);
  zone_ended(operation, write, &error);
  zone_end(operation);
}

/* Also where nothing was changed: an attempt before may have been killed between both. */
static void reload(struct publish_operation *operation, size_t index) {
  struct zone_write *write = &((struct writes *)operation->making)->zones[index];
  const struct policy_publisher *policy = operation->owner->policy;
  const struct runner_variable variables[] = {
      {"DKIMROLL_PUBLISHER", policy->name}, {"DKIMROLL_ZONE", write->zone}, {"DKIMROLL_FILE", write->path}};
  const struct runner_call call = {
      .purpose = RUNNER_RELOAD_ZONE, .name = policy->name, .variables = variables, .variable_count = ARRAY_SIZE(variables)};
  struct error error = {0};
  if (policy->reload_command_count > 0 && looked_run(operation, index, &call, reloaded, &error) == 0) return;
  zone_ended(operation, write, &error);
  zone_end(operation);
}

/* ---- the file ---- */

static int submit_write(struct publish_operation *operation, size_t index, struct error *error);

/* Items that the file's own contents refuse have ended; are there others? The answers to the edits that the store asked for come first, and tell nothing. */
static bool take_answers(struct publish_operation *operation, struct zone_write *write, const struct runner_fragment_reply *said) {
  bool any = false;
  for (size_t i = 0; i < write->count; i++) {
    struct error error = {0};
    if (!said->errors || said->count < write->count)
      error_set(&error, ERROR_PROTOCOL, "the runner does not say what became of zone %s", write->zone);
    else
      error = said->errors[said->count - write->count + i];
    if (error.code) looked_made(operation, write->items[i], &error);
    any |= error.code == 0;
  }
  return any;
}

/* A file that never was, and of which nothing is known, has nothing that could come back. */
static void end_what_is_gone(struct publish_operation *operation, const struct zone_write *write) {
  const struct error none = {0};
  for (size_t i = 0; i < write->count; i++) {
    const struct looked_item *item = &operation->work[write->items[i]];
    if (item->change->change == PUBLISH_DELETE && looked_shows_nothing(item)) looked_made(operation, write->items[i], &none);
  }
}

static void written(struct publish_operation *operation, size_t index, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct zone_write *write = &((struct writes *)operation->making)->zones[index];
  CLEANUP(runner_fragment_reply_release) struct runner_fragment_reply said = {0};
  struct error error = *result;
  /* Lost, or never there: now with all that belongs there. */
  if (error.code == ERROR_NOT_FOUND && !write->complete && operation->owner->publisher.source) {
    write->complete = true;
    error = (struct error){0};
    if (submit_write(operation, index, &error) == 0) return;
  }
  if (error.code == ERROR_NOT_FOUND) end_what_is_gone(operation, write);
  if (!error.code) (void)!runner_fragment_read(reply, reply_size, &said, &error);
  if (error.code) {
    error_context(&error, "publisher %s", operation->owner->policy->name);
    zone_ended(operation, write, &error);
    zone_end(operation);
    return;
  }
  write->path = TAKE_PTR(said.path);
  if (take_answers(operation, write, &said))
    reload(operation, index);
  else
    zone_end(operation);
}

static int submit_write(struct publish_operation *operation, size_t index, struct error *error) {
  const struct zone_write *write = &((struct writes *)operation->making)->zones[index];
  CLEANUP(edits_release) struct edits edits = {0};
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  const int result = collect_edits(operation, write, &edits, error);
  if (result) return result;
  /* A store that knows no record of the zone may be one that was lost together with the file, and then the name server still has what signs in memory. So only an empty file, which
   * somebody made, is taken over. */
  const bool known = edits.text_count > 0;
  const struct runner_fragment_call call = {.publisher = operation->owner->policy->name,
                                            .zone = write->zone,
                                            .make = known,
                                            .take_empty = write->complete || !operation->owner->publisher.source,
                                            .edits = edits.items,
                                            .count = edits.count};
  runner_fragment_write(&payload, &call);
  return looked_submit(operation, index, KEEPER_WRITE_FRAGMENT, &payload, written, error);
}

static void writes_next(struct publish_operation *operation) {
  struct writes *writes = operation->making;
  while (writes->open < ZONES_AT_ONCE && writes->next < writes->count) {
    const size_t index = writes->next++;
    struct error error = {0};
    if (submit_write(operation, index, &error) == 0)
      writes->open++;
    else
      zone_ended(operation, &writes->zones[index], &error);
  }
}

/* ---- the beginning ---- */

static void zonefile_release(struct publish_operation *operation) {
  struct writes *writes = operation->making;
  for (size_t i = 0; writes && i < writes->count; i++) {
    free(writes->zones[i].zone);
    free(writes->zones[i].path);
    free(writes->zones[i].items);
  }
  if (writes) free(writes->zones);
  free(writes);
}

static int find_zone(struct writes *writes, const char *zone, size_t items, struct zone_write **ret_write) {
  for (size_t i = 0; i < writes->count; i++) {
    *ret_write = &writes->zones[i];
    if (text_equal(writes->zones[i].zone, zone)) return 0;
  }
  struct zone_write *write = &writes->zones[writes->count++];
  write->zone = text_duplicate(zone);
  write->items = calloc(items, sizeof(*write->items));
  *ret_write = write;
  return write->zone && write->items ? 0 : ERROR_NO_MEMORY;
}

static int zonefile_begin(struct publish_operation *operation, struct error *error) {
  struct writes *writes = operation->making = calloc(1, sizeof(*writes));
  if (writes) writes->zones = calloc(operation->count, sizeof(*writes->zones));
  int result = writes && writes->zones ? 0 : ERROR_NO_MEMORY;
  for (size_t i = 0; i < operation->count && !result; i++) {
    struct zone_write *write = NULL;
    if (!operation->work[i].to_make) continue;
    result = find_zone(writes, operation->results[i].zone, operation->count, &write);
    if (!result) write->items[write->count++] = i;
  }
  if (result) return error_set(error, result, "publishing: out of memory");
  writes_next(operation);
  return 0;
}

int publisher_zonefile_new(struct loop *loop, struct keeper *runner, struct observer *observer, const struct policy_publisher *policy,
                           struct publisher **ret_publisher, struct error *error) {
  static const struct looked_maker maker = {
      .keeps_file = true,
      .begin = zonefile_begin,
      .release = zonefile_release,
      .unseen = "look whether the zone's file includes the fragment ($INCLUDE), whether its serial rises, and whether reload has the name server read it; "
                "a record that is to go may stand in the zone's own file"};
  const struct looked with = {.loop = loop, .runner = runner, .observer = observer, .policy = policy, .maker = &maker};
  return looked_new(&with, ret_publisher, error);
}
