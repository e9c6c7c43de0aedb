#include "dkimroll/opendkim_jobs.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/opendkim_reload.h"
#include "dkimroll/table_stamp.h"
#include "dkimroll/text.h"

/* Fields hold their NUL, so that the worker borrows them from the message as they are; NULL is an empty field. */
static void opendkim_add_text(struct buffer *payload, const char *text) {
  buffer_add_field(payload, text, text ? strlen(text) + 1 : 0);
}

/* NULL for NULL; a field that is no text fails the reader. */
static const char *opendkim_read_text(struct reader *request) {
  size_t size = 0;
  const char *text = (const char *)reader_field(request, &size);
  if (request->failed || size == 0) return NULL;
  if (text[size - 1] == '\0' && strlen(text) == size - 1) return text;
  request->failed = true;
  return NULL;
}

void opendkim_jobs_tables(struct buffer *payload, const struct policy_signer *signer, const struct table_item *items,
                          size_t count) {
  opendkim_add_text(payload, signer->key_table);
  opendkim_add_text(payload, signer->signing_table);
  buffer_add_u8(payload, (uint8_t)signer->signing_table_format);
  buffer_add_u8(payload, signer->multiple_signatures);
  buffer_add_u32(payload, (uint32_t)count);
  for (size_t i = 0; i < count; i++) {
    buffer_add_u8(payload, (uint8_t)items[i].edit_count);
    for (size_t j = 0; j < items[i].edit_count; j++) {
      const struct table_edit *edit = &items[i].edits[j];
      buffer_add_u8(payload, (uint8_t)edit->kind);
      buffer_add_u8(payload, (uint8_t)(edit->existing | edit->kept << 1));
      buffer_add_u8(payload, edit->shared);
      opendkim_add_text(payload, edit->pattern);
      opendkim_add_text(payload, edit->name);
      opendkim_add_text(payload, edit->value);
      opendkim_add_text(payload, edit->before);
      opendkim_add_text(payload, edit->beside);
      opendkim_add_text(payload, edit->address);
    }
  }
}

/* A request on tables, as the worker reads it. Texts are borrowed from the message. */
struct opendkim_request {
  struct table_files files;
  struct table_edit *edits; /* of all items */
  size_t edit_count, edit_capacity;
  struct table_item *items;
  size_t count;
  struct table_outcome *outcomes;
};

static void opendkim_request_release(struct opendkim_request *request) {
  free(request->edits);
  free(request->items);
  free(request->outcomes);
}

static struct table_edit *opendkim_request_add_edit(struct opendkim_request *request) {
  if (request->edit_count == request->edit_capacity) {
    size_t capacity = request->edit_capacity ? request->edit_capacity * 2 : 64;
    struct table_edit *edits = reallocarray(request->edits, capacity, sizeof(*edits));
    if (!edits) return NULL;
    request->edits = edits;
    request->edit_capacity = capacity;
  }
  return &request->edits[request->edit_count++];
}

static int opendkim_read_item(struct reader *reader, struct opendkim_request *request, struct table_item *item,
                              struct error *error) {
  size_t count = reader_u8(reader);
  if (reader->failed || count > TABLE_EDITS_MAX) return reader_refuse(reader, "a job on tables", error);
  for (size_t i = 0; i < count; i++) {
    struct table_edit *edit = opendkim_request_add_edit(request);
    if (!edit) return error_set(error, ERROR_NO_MEMORY, "keeper: out of memory");
    *edit = (struct table_edit){.kind = (enum table_edit_kind)reader_u8(reader)};
    const uint8_t others = reader_u8(reader);
    edit->existing = (others & 1) != 0;
    edit->kept = (others & 2) != 0;
    edit->shared = reader_u8(reader) != 0;
    edit->pattern = opendkim_read_text(reader);
    edit->name = opendkim_read_text(reader);
    edit->value = opendkim_read_text(reader);
    edit->before = opendkim_read_text(reader);
    edit->beside = opendkim_read_text(reader);
    edit->address = opendkim_read_text(reader);
    if (reader->failed) return reader_refuse(reader, "a job on tables", error);
  }
  item->edit_count = count;
  return 0;
}

static int opendkim_read_request(struct reader *reader, struct opendkim_request *request, struct error *error) {
  request->files.key_table = opendkim_read_text(reader);
  request->files.signing_table = opendkim_read_text(reader);
  request->files.format = (enum signing_table_format)reader_u8(reader);
  request->files.multiple_signatures = reader_u8(reader) != 0;
  request->count = reader_u32(reader);
  if (reader->failed || !request->files.key_table || !request->files.signing_table ||
      request->count > OPENDKIM_ITEMS_MAX)
    return reader_refuse(reader, "a job on tables", error);
  request->items = calloc(request->count + 1, sizeof(*request->items));
  request->outcomes = calloc(request->count + 1, sizeof(*request->outcomes));
  if (!request->items || !request->outcomes) return error_set(error, ERROR_NO_MEMORY, "keeper: out of memory");
  for (size_t i = 0; i < request->count; i++) {
    int result = opendkim_read_item(reader, request, &request->items[i], error);
    if (result < 0) return result;
  }
  /* Only now do the edits stay where they are. Where no item has any, there is no array to point into. */
  for (size_t i = 0, next = 0; i < request->count; next += request->items[i++].edit_count)
    request->items[i].edits = request->edits ? &request->edits[next] : NULL;
  return 0;
}

static const struct opendkim_root *opendkim_find_tables(const struct opendkim_roots *roots,
                                                        const struct table_files *files) {
  for (size_t i = 0; i < roots->count; i++) {
    const struct opendkim_root *root = &roots->items[i];
    if (text_equal(root->key_table, files->key_table) && text_equal(root->signing_table, files->signing_table) &&
        root->format == files->format && root->multiple_signatures == files->multiple_signatures)
      return root;
  }
  return NULL;
}

static bool opendkim_root_allows(const struct opendkim_root *root, const char *value) {
  const char *path = value ? strchr(value, ':') : NULL;
  path = path ? strchr(path + 1, ':') : NULL;
  return path && opendkim_root_has_key(root, path + 1);
}

/* Several versions of a signer may share the tables and differ in where keys lie: one that allows it is enough. */
static int opendkim_check_edit(const struct opendkim_roots *roots, const struct opendkim_root *tables,
                               const struct table_edit *edit, struct error *error) {
  if (edit->kind != TABLE_KEY_SET) return 0;
  for (size_t i = 0; i < roots->count; i++)
    if (text_equal(roots->items[i].key_table, tables->key_table) && opendkim_root_allows(&roots->items[i], edit->value))
      return 0;
  return error_set(error, ERROR_PERMISSION, "keeper: KeyTable value \"%s\" names no file below %s",
                   edit->value ? edit->value : "", tables->key_prefix);
}

static int opendkim_check_request(const struct opendkim_roots *roots, const struct opendkim_request *request,
                                  struct error *error) {
  const struct opendkim_root *root = opendkim_find_tables(roots, &request->files);
  if (!root) {
    error_set(error, ERROR_PERMISSION, "keeper: %s and %s are not tables of a signer of the policy",
              request->files.key_table, request->files.signing_table);
    error_remedy(error, "restart dkimroll after signers of the policy have changed");
    return ERROR_PERMISSION;
  }
  for (size_t i = 0; i < request->edit_count; i++) {
    int result = opendkim_check_edit(roots, root, &request->edits[i], error);
    if (result < 0) return result;
  }
  return 0;
}

static void opendkim_add_outcomes(const struct opendkim_request *request, struct buffer *reply) {
  buffer_add_u32(reply, (uint32_t)request->count);
  for (size_t i = 0; i < request->count; i++) {
    const struct table_outcome *outcome = &request->outcomes[i];
    buffer_add_u32(reply, (uint32_t)outcome->error.code);
    if (outcome->error.code == 0) {
      buffer_add_u8(reply, (uint8_t)request->items[i].edit_count);
      buffer_add(reply, outcome->made, request->items[i].edit_count);
    } else {
      buffer_add_u8(reply, outcome->error.retryable);
      opendkim_add_text(reply, outcome->error.message);
      opendkim_add_text(reply, outcome->error.remedy);
    }
  }
}

typedef int opendkim_tables_action(const struct table_files *files, const struct table_item *items, size_t count,
                                   struct table_outcome *outcomes, struct error *error);

static int opendkim_run_tables(const struct opendkim_roots *roots, struct reader *reader,
                               opendkim_tables_action *action, struct buffer *reply, struct error *error) {
  CLEANUP(opendkim_request_release) struct opendkim_request request = {0};
  int result = opendkim_read_request(reader, &request, error);
  if (result == 0) result = opendkim_check_request(roots, &request, error);
  if (result == 0) result = action(&request.files, request.items, request.count, request.outcomes, error);
  if (result < 0) return result;
  opendkim_add_outcomes(&request, reply);
  return 0;
}

static int opendkim_run_edit(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  return opendkim_run_tables(context, request, table_files_edit, reply, error);
}

static int opendkim_run_read(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  return opendkim_run_tables(context, request, table_files_try, reply, error);
}

static bool opendkim_read_outcome(struct reader *reader, struct table_outcome *outcome) {
  *outcome = (struct table_outcome){0};
  outcome->error.code = (int)reader_u32(reader);
  if (outcome->error.code == 0) {
    size_t count = reader_u8(reader);
    const uint8_t *made = reader_octets(reader, count);
    if (reader->failed || count > TABLE_EDITS_MAX) return false;
    if (count > 0) memcpy(outcome->made, made, count);
    return true;
  }
  outcome->error.retryable = reader_u8(reader) != 0;
  const char *message = opendkim_read_text(reader);
  const char *remedy = opendkim_read_text(reader);
  if (reader->failed || outcome->error.code > 0) return false;
  text_copy(outcome->error.message, sizeof(outcome->error.message), message ? message : "");
  text_copy(outcome->error.remedy, sizeof(outcome->error.remedy), remedy ? remedy : "");
  return true;
}

int opendkim_jobs_read_tables(const uint8_t *reply, size_t reply_size, struct table_outcome *outcomes, size_t count,
                              struct error *error) {
  struct reader reader = {.data = reply, .size = reply_size};
  if (reader_u32(&reader) != count || reader.failed) return reader_refuse(&reader, "the keeper's answer about tables", error);
  for (size_t i = 0; i < count; i++)
    if (!opendkim_read_outcome(&reader, &outcomes[i])) return reader_refuse(&reader, "the keeper's answer about tables", error);
  return 0;
}

/* What is asked of the signer, on the wire. */
enum { ASK_RELOAD = 0, ASK_PROBE = 1, ASK_RESTART = 2 };

void opendkim_jobs_reload(struct buffer *payload, const struct policy_signer *signer, bool probe, int64_t timeout_ms) {
  buffer_add_u8(payload, probe ? ASK_PROBE : ASK_RELOAD);
  buffer_add_u8(payload, (uint8_t)signer->reload);
  buffer_add_u64(payload, timeout_ms > 0 ? (uint64_t)timeout_ms : 0);
  opendkim_add_text(payload, signer->reload_target);
  buffer_add_u32(payload, (uint32_t)signer->reload_command_count);
  for (size_t i = 0; i < signer->reload_command_count; i++) opendkim_add_text(payload, signer->reload_command[i]);
}

void opendkim_jobs_restart(struct buffer *payload, const struct policy_signer *signer, int64_t timeout_ms) {
  const char *target = NULL;
  buffer_add_u8(payload, ASK_RESTART);
  buffer_add_u8(payload, (uint8_t)policy_signer_restart(signer, &target));
  buffer_add_u64(payload, timeout_ms > 0 ? (uint64_t)timeout_ms : 0);
  opendkim_add_text(payload, target);
  buffer_add_u32(payload, (uint32_t)signer->restart_command_count);
  for (size_t i = 0; i < signer->restart_command_count; i++) opendkim_add_text(payload, signer->restart_command[i]);
}

/* Takes words one by one, so that a command that differs in the last is none of the policy's. */
static bool opendkim_command_equal(char *const *command, struct reader words, uint32_t count) {
  size_t own = 0;
  while (command && command[own]) own++;
  if (own != count) return false;
  for (size_t i = 0; i < own; i++) {
    const char *word = opendkim_read_text(&words);
    if (words.failed || !text_equal(word ? word : "", command[i])) return false;
  }
  return true;
}

/* The way that the policy has for it, which is the only one that is gone. NULL: it has none like that. */
static const struct opendkim_way *opendkim_find_way(const struct opendkim_roots *roots, bool restart, const struct opendkim_way *asked,
                                                    const struct reader *words, uint32_t count) {
  for (size_t i = 0; i < roots->count; i++) {
    const struct opendkim_way *way = restart ? &roots->items[i].restart : &roots->items[i].reload;
    if (way->kind == asked->kind && text_equal(way->target, asked->target) && opendkim_command_equal(way->command, *words, count)) return way;
  }
  return NULL;
}

static int opendkim_run_reload(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)reply;
  const unsigned asked = reader_u8(request);
  struct opendkim_way wanted = {.kind = (enum reload_kind)reader_u8(request)};
  uint64_t timeout_ms = reader_u64(request);
  wanted.target = (char *)opendkim_read_text(request);
  uint32_t words = reader_u32(request);
  if (request->failed || asked > ASK_RESTART) return reader_refuse(request, "a job to reload", error);
  const bool probe = asked == ASK_PROBE, restart = asked == ASK_RESTART;
  const struct opendkim_way *way = opendkim_find_way(context, restart, &wanted, request, words);
  if (!way) {
    error_set(error, ERROR_PERMISSION, "keeper: this %s is not one of a signer of the policy", restart ? "restart" : "reload");
    error_remedy(error, "restart dkimroll after signers of the policy have changed");
    return ERROR_PERMISSION;
  }
  int64_t wait = timeout_ms < OPENDKIM_RELOAD_MS_MAX ? (int64_t)timeout_ms : OPENDKIM_RELOAD_MS_MAX;
  int64_t deadline = clock_boottime() + wait;
  switch (way->kind) {
  case RELOAD_UNIT: return restart ? restart_unit(way->target, deadline, error) : reload_unit(way->target, probe, deadline, error);
  case RELOAD_PID_FILE: return reload_pid_file(way->target, probe, error);
  case RELOAD_COMMAND: return reload_command(way->command, probe, deadline, error);
  case RELOAD_NONE: break;
  }
  return error_set(error, ERROR_PROTOCOL, "keeper: a reload of no kind");
}

void opendkim_jobs_look(struct buffer *payload, const struct policy_signer *signer, const char *known_state) {
  opendkim_add_text(payload, signer->key_table);
  opendkim_add_text(payload, signer->signing_table);
  opendkim_add_text(payload, known_state);
}

static int opendkim_run_look(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  const struct opendkim_roots *roots = context;
  struct table_files files = {0};
  files.key_table = opendkim_read_text(request);
  files.signing_table = opendkim_read_text(request);
  const char *known = opendkim_read_text(request);
  struct signer_stamp stamp;
  bool allowed = false;
  if (request->failed) return reader_refuse(request, "a job to look at tables", error);
  for (size_t i = 0; i < roots->count; i++)
    allowed = allowed || (text_equal(roots->items[i].key_table, files.key_table) &&
                          text_equal(roots->items[i].signing_table, files.signing_table));
  if (!allowed) return error_set(error, ERROR_PERMISSION, "keeper: these are not tables of a signer of the policy");
  int result = table_files_stamp(&files, known, &stamp, error);
  if (result < 0) return result;
  opendkim_add_text(reply, stamp.state);
  opendkim_add_text(reply, stamp.digest);
  return 0;
}

int opendkim_jobs_read_stamp(const uint8_t *reply, size_t reply_size, struct signer_stamp *ret_stamp,
                             struct error *error) {
  struct reader reader = {.data = reply, .size = reply_size};
  const char *state = opendkim_read_text(&reader);
  const char *digest = opendkim_read_text(&reader);
  if (reader.failed || !state || strlen(state) >= SIGNER_STATE_SIZE || (digest && strlen(digest) >= SIGNER_DIGEST_SIZE))
    return reader_refuse(&reader, "the keeper's look at tables", error);
  *ret_stamp = (struct signer_stamp){0};
  text_copy(ret_stamp->state, sizeof(ret_stamp->state), state);
  text_copy(ret_stamp->digest, sizeof(ret_stamp->digest), digest ? digest : "");
  return 0;
}

size_t opendkim_jobs_handlers(const struct opendkim_roots *roots, struct keeper_handler *handlers) {
  void *context = (void *)(uintptr_t)roots; /* The handlers only read it. */
  handlers[0] = (struct keeper_handler){.job = KEEPER_EDIT_TABLES, .run = opendkim_run_edit, .context = context};
  handlers[1] = (struct keeper_handler){.job = KEEPER_READ_TABLES, .run = opendkim_run_read, .context = context};
  handlers[2] = (struct keeper_handler){.job = KEEPER_RELOAD, .run = opendkim_run_reload, .context = context};
  handlers[3] = (struct keeper_handler){.job = KEEPER_LOOK_TABLES, .run = opendkim_run_look, .context = context};
  return OPENDKIM_JOBS_COUNT;
}
