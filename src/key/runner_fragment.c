#include "dkimroll/runner_fragment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

/* ---- what is allowed ---- */

void runner_zonefiles_release(struct runner_zonefiles *zonefiles) {
  if (!zonefiles) return;
  for (size_t i = 0; i < zonefiles->count; i++) {
    free(zonefiles->items[i].name);
    free(zonefiles->items[i].file);
    free(zonefiles->items[i].owner);
    free(zonefiles->items[i].zone);
  }
  free(zonefiles->items);
  *zonefiles = (struct runner_zonefiles){0};
}

int runner_zonefiles_allow(struct runner_zonefiles *zonefiles, const struct policy *policy, struct error *error) {
  bool complete = true;
  if (!zonefiles->items) zonefiles->items = calloc(policy->publisher_count + 1, sizeof(*zonefiles->items));
  for (size_t i = 0; i < policy->publisher_count && zonefiles->items && complete; i++) {
    const struct policy_publisher *publisher = &policy->publishers[i];
    struct runner_zonefile *item = &zonefiles->items[zonefiles->count];
    if (publisher->type != PUBLISHER_ZONEFILE) continue;
    zonefiles->count++;
    *item = (struct runner_zonefile){.name = text_duplicate(publisher->name),
                                     .file = text_duplicate(publisher->file),
                                     .owner = text_duplicate(publisher->owner),
                                     .zone = text_duplicate(publisher->zone),
                                     .mode = publisher->mode};
    complete = item->name && item->file && !item->owner == !publisher->owner && !item->zone == !publisher->zone;
  }
  return zonefiles->items && complete ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory for the runner's fragments");
}

static int find_zonefile(const struct runner_zonefiles *zonefiles, const char *name, const char *zone, const struct runner_zonefile **ret_item,
                         struct error *error) {
  for (size_t i = 0; i < zonefiles->count; i++) {
    const struct runner_zonefile *item = &zonefiles->items[i];
    if (!text_equal(item->name, name)) continue;
    if (item->zone && !text_equal(item->zone, zone)) break;
    *ret_item = item;
    return 0;
  }
  char shown[POLICY_NAME_MAX + 1];
  text_printable(name, strlen(name), shown, sizeof(shown));
  error_set(error, ERROR_PERMISSION, "the policy has no publisher %s any more that writes a file for zone %s", shown, zone);
  error_remedy(error, "put it back into the policy until the last key that was published through it is removed");
  return ERROR_PERMISSION;
}

/* ---- the request ---- */

void runner_fragment_write(struct buffer *payload, const struct runner_fragment_call *call) {
  buffer_add_text_field(payload, call->publisher);
  buffer_add_text_field(payload, call->zone);
  buffer_add_u8(payload, call->make);
  buffer_add_u8(payload, call->take_empty);
  buffer_add_u32(payload, (uint32_t)call->count);
  for (size_t i = 0; i < call->count; i++) {
    const struct fragment_edit *edit = &call->edits[i];
    buffer_add_u8(payload, (uint8_t)edit->change);
    buffer_add_u32(payload, edit->ttl);
    buffer_add_text_field(payload, edit->name);
    buffer_add_text_field(payload, edit->record);
    buffer_add_text_field(payload, edit->record_before);
    buffer_add_text_field(payload, edit->record_also);
  }
}

/* One edit; its texts are owned. */
struct edit {
  struct fragment_edit edit;
  char *texts[4];
};

static void edit_release(struct edit *edit) {
  for (size_t i = 0; i < ARRAY_SIZE(edit->texts); i++) free(edit->texts[i]);
}

static int edit_read(struct reader *request, struct edit *edit, struct error *error) {
  edit->edit.change = (enum fragment_change)reader_u8(request);
  edit->edit.ttl = reader_u32(request);
  for (size_t i = 0; i < ARRAY_SIZE(edit->texts); i++) edit->texts[i] = reader_text_field(request);
  const bool known = edit->edit.change >= FRAGMENT_ADD && edit->edit.change <= FRAGMENT_KEEP;
  if (request->failed || request->no_memory || !known) return reader_refuse(request, "an edit of a fragment", error);
  edit->edit.name = edit->texts[0];
  edit->edit.record = edit->texts[1][0] ? edit->texts[1] : NULL;
  edit->edit.record_before = edit->texts[2][0] ? edit->texts[2] : NULL;
  edit->edit.record_also = edit->texts[3][0] ? edit->texts[3] : NULL;
  return 0;
}

/* ---- the file ---- */

/* Others that write fragments there wait, for as long as a file takes to be written. */
static int lock_directory(const char *path, int *ret_descriptor, struct error *error) {
  CLEANUP_FREE char *directory = text_format("%.*s", (int)(strrchr(path, '/') - path), path);
  const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = S_IRWXU | S_IRGRP | S_IXGRP | S_IROTH | S_IXOTH};
  if (!directory) return error_set(error, ERROR_NO_MEMORY, "out of memory for a fragment");
  const int result = file_make_directories(directory, &rights, error);
  if (result) return result;
  CLEANUP_CLOSE int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return error_set_errno(error, errno, "cannot open %s", directory);
  while (flock(descriptor, LOCK_EX) < 0)
    if (errno != EINTR) return error_set_errno(error, errno, "cannot lock %s", directory);
  *ret_descriptor = TAKE_FD(descriptor);
  return 0;
}

static int refuse_lost(const char *path, bool empty, struct error *error) {
  error_set(error, ERROR_NOT_FOUND, "%s %s", path, empty ? "holds no record" : "does not exist");
  error_remedy(error,
               "before the first record: make it empty (install -m 0644 /dev/null %s), and include it in the zone. If it was lost: `dkimroll run` writes it with the records that the state knows; if the state was lost, "
               "too, `dkimroll import` first, for all domains of the zone",
               path);
  return ERROR_NOT_FOUND;
}

struct fragment_file {
  const struct runner_zonefile *zonefile;
  const char *zone;
  char *path; /* owned */
  int lock;
  struct fragment fragment;
  bool missing, changed;
};

static void fragment_file_close(struct fragment_file *file) {
  free(file->path);
  fragment_release(&file->fragment);
  if (file->lock >= 0) close(file->lock);
}

static int fragment_file_open(struct fragment_file *file, bool make, bool take_empty, struct error *error) {
  const struct policy_publisher publisher = {.file = file->zonefile->file};
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error reason = {0};
  int result = policy_publisher_file(&publisher, file->zone, &file->path, error);
  if (!result) result = lock_directory(file->path, &file->lock, error);
  if (result) return result;
  result = file_read(file->path, FRAGMENT_FILE_MAX, &text, &size, NULL, &reason);
  file->missing = result == ERROR_NOT_FOUND;
  if (!result) result = fragment_parse(text, size, file->zone, &file->fragment, &reason);
  if (result && !file->missing) {
    error_context(&reason, "%s", file->path);
    *error = reason;
    return result;
  }
  if (!make && file->missing) return refuse_lost(file->path, false, error);
  if (!make && !take_empty && file->fragment.count == 0) return refuse_lost(file->path, true, error);
  return 0;
}

static int fragment_file_save(struct fragment_file *file, struct error *error) {
  struct stat directory;
  struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = file->zonefile->mode};
  /* The group that the directory gives anyhow: to ask for another one would need rights that a unit does not have. */
  if (fstat(file->lock, &directory) == 0 && (directory.st_mode & S_ISGID) != 0) rights.group = directory.st_gid;
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(FRAGMENT_FILE_MAX);
  if (!file->changed && !file->missing) return 0;
  int result = file->zonefile->owner ? file_parse_owner(file->zonefile->owner, &rights.owner, &rights.group, error) : 0;
  if (result) return result;
  fragment_write(&file->fragment, file->zone, file->path, &text);
  if (text.no_memory) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", file->path);
  if (text.failed) return error_set(error, ERROR_LIMIT, "%s: it would have more than %d octets", file->path, FRAGMENT_FILE_MAX);
  result = file_replace(file->path, text.data, text.size, &rights, error);
  if (result == ERROR_PERMISSION)
    error_remedy(error, "let dkimroll's user write to that directory, and its unit (ReadWritePaths=); leave out owner, which no unit may give: a set-group-ID bit "
                        "of the directory gives the group");
  return result;
}

/* A file that holds what it should may have been written by an attempt that was killed before it was durable. */
static int fragment_file_finish(struct fragment_file *file, struct error *error) {
  const int result = fragment_file_save(file, error);
  return result || file->changed || file->missing ? result : file_sync(file->path, error);
}

static int apply_edits(struct reader *request, uint32_t count, struct fragment_file *file, struct buffer *outcomes, struct error *error) {
  for (uint32_t i = 0; i < count; i++) {
    CLEANUP(edit_release) struct edit edit = {0};
    struct error failure = {0};
    bool changed = false;
    const int result = edit_read(request, &edit, error);
    if (result) return result;
    if (fragment_edit(&file->fragment, file->zone, &edit.edit, &changed, &failure) == 0) file->changed |= changed;
    buffer_add_u32(outcomes, (uint32_t)-failure.code);
    if (failure.code == 0) continue;
    error_context(&failure, "%s", file->path);
    buffer_add_text_field(outcomes, failure.message);
    buffer_add_text_field(outcomes, failure.remedy);
  }
  if (request->failed || request->position != request->size) return reader_refuse(request, "edits of a fragment", error);
  return 0;
}

static int run_write(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  CLEANUP_FREE char *publisher = reader_text_field(request);
  CLEANUP_FREE char *zone = reader_text_field(request);
  const bool make = reader_u8(request) != 0;
  const bool take_empty = reader_u8(request) != 0;
  const uint32_t count = reader_u32(request);
  if (!publisher || !zone || request->failed || count > RUNNER_EDITS_MAX) return reader_refuse(request, "edits of a fragment", error);
  CLEANUP(fragment_file_close) struct fragment_file file = {.zone = zone, .lock = -1};
  CLEANUP(buffer_release) struct buffer outcomes = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  int result = fragment_check_zone(zone, error);
  if (!result) result = find_zonefile(context, publisher, zone, &file.zonefile, error);
  if (!result) result = fragment_file_open(&file, make, take_empty, error);
  if (!result) result = apply_edits(request, count, &file, &outcomes, error);
  if (!result) result = fragment_file_finish(&file, error);
  if (result) return result;
  buffer_add_text_field(reply, file.path);
  buffer_add_u8(reply, file.changed || file.missing);
  buffer_add_u32(reply, count);
  buffer_add(reply, outcomes.data ? outcomes.data : (const uint8_t *)"", outcomes.size);
  buffer_fail(reply, &outcomes);
  return 0;
}

struct keeper_handler runner_fragment_handler(const struct runner_zonefiles *zonefiles) {
  /* The handler only reads them. */
  return (struct keeper_handler){.job = KEEPER_WRITE_FRAGMENT, .run = run_write, .context = (void *)(uintptr_t)zonefiles};
}

/* ---- the reply ---- */

void runner_fragment_reply_release(struct runner_fragment_reply *reply) {
  if (!reply) return;
  free(reply->path);
  free(reply->errors);
  *reply = (struct runner_fragment_reply){0};
}

static void read_outcome(struct reader *reader, struct error *ret_error) {
  const uint32_t number = reader_u32(reader);
  if (number == 0) return;
  if (number > INT32_MAX) {
    reader->failed = true;
    return;
  }
  CLEANUP_FREE char *message = reader_text_field(reader);
  CLEANUP_FREE char *remedy = reader_text_field(reader);
  error_set(ret_error, -(int)number, "%s", message ? message : "");
  error_remedy(ret_error, "%s", remedy ? remedy : "");
}

int runner_fragment_read(const uint8_t *reply, size_t reply_size, struct runner_fragment_reply *ret_reply, struct error *error) {
  CLEANUP(runner_fragment_reply_release) struct runner_fragment_reply read = {0};
  struct reader reader = {.data = reply, .size = reply_size};
  read.path = reader_text_field(&reader);
  read.changed = reader_u8(&reader) != 0;
  read.count = reader_u32(&reader);
  if (!read.path || reader.failed || read.count > RUNNER_EDITS_MAX) return reader_refuse(&reader, "what the runner says of a fragment", error);
  read.errors = calloc(read.count + 1, sizeof(*read.errors));
  if (!read.errors) return error_set(error, ERROR_NO_MEMORY, "out of memory for what the runner says of a fragment");
  for (size_t i = 0; i < read.count; i++) read_outcome(&reader, &read.errors[i]);
  if (reader.failed || reader.position != reader.size) return reader_refuse(&reader, "what the runner says of a fragment", error);
  *ret_reply = read;
  read.path = NULL;
  read.errors = NULL;
  return 0;
}
