#include <stdlib.h>

#include "dkimroll/key_jobs.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

/* A look at the private key files of keys that wait to take over. What is missing there is told by the reports, and is no failure of the look. */
struct inspection {
  size_t reading; /* the item whose files are read now */
  struct inspection_item {
    size_t place; /* the placement whose file is read now */
    struct placement_report reports[KEY_PLACEMENTS_MAX];
    char *failures[KEY_PLACEMENTS_MAX];
    size_t report_count;
  } items[];
};

static void inspection_free(struct operation *operation) {
  struct inspection *inspection = operation->state;
  for (size_t i = 0; i < operation->count; i++)
    for (size_t j = 0; j < KEY_PLACEMENTS_MAX; j++) free(inspection->items[i].failures[j]);
}

static void read_next(void *context);

/* The keeper that cannot read a file says nothing about the key. */
static void file_read_done(struct operation *operation, size_t i, const struct error *result, const uint8_t *reply, size_t size) {
  struct inspection_item *item = &((struct inspection *)operation->state)->items[i];
  const struct key *key = operation_key(operation, i);
  const struct placement *placement = &key->placements[item->place];
  struct placement_report *report = &item->reports[item->report_count];
  struct error error;
  *report = (struct placement_report){.signer_id = placement->signer_id, .completed_at = loop_wall(operation->engine->setup.loop)};
  if (key_check_file(key, result, reply, size, &error)) {
    const bool missing = error.code == ERROR_NOT_FOUND;
    if (missing || error.code == ERROR_CONFLICT || error.code == ERROR_INVALID) {
      report->damage = missing ? DAMAGE_FILE_MISSING : DAMAGE_FILE_OTHER;
      item->failures[item->report_count] =
          text_format("the private key %s of a key that waits to take over %s; another key is made in its place", placement->key_path,
                      missing ? "is not there" : "is another one, or cannot be read");
      report->failure = item->failures[item->report_count];
    } else {
      operation_fail(operation, i, &error);
    }
  }
  item->report_count++;
  item->place++;
  read_next(operation);
}

static void finish(struct operation *operation) {
  struct inspection *inspection = operation->state;
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->outcomes[i].error) continue;
    operation->outcomes[i].placements = inspection->items[i].reports;
    operation->outcomes[i].placement_count = inspection->items[i].report_count;
  }
  operation_finish(operation);
}

/* One file after the other, of one key after the other: nobody waits for it. */
static void read_next(void *context) {
  struct operation *operation = context;
  struct inspection *inspection = operation->state;
  operation->later = NULL;
  for (; inspection->reading < operation->count; inspection->reading++) {
    const size_t i = inspection->reading;
    struct inspection_item *item = &inspection->items[i];
    const struct key *key = operation_key(operation, i);
    for (; item->place < key->placement_count && !operation->outcomes[i].error; item->place++) {
      const struct placement *placement = &key->placements[item->place];
      struct buffer payload = BUFFER_WITH_MAXIMUM(KEYPAIR_FILE_MAX);
      struct error error = {0};
      if (!placement->file_made || placement->destroyed || !placement->key_path) continue;
      key_jobs_path(&payload, placement->key_path);
      int result = operation_submit(operation, i, KEEPER_READ_PUBLIC, &payload, file_read_done, &error);
      buffer_release(&payload);
      if (!result) return;
      operation_fail(operation, i, &error);
    }
  }
  finish(operation);
}

static int check_files_start(struct operation *operation, struct error *error) {
  operation->state = calloc(1, sizeof(struct inspection) + operation->count * sizeof(struct inspection_item));
  if (!operation->state) return error_set(error, ERROR_NO_MEMORY, "out of memory for a look at private keys");
  return operation_begin_later(operation, read_next, error);
}

const struct stage stage_check_files = {.name = "check-files",
                                        .batch_maximum = ENGINE_PROVE_BATCH,
                                        .seconds = ENGINE_KEEPER_SECONDS,
                                        .parallel = 1,
                                        .start = check_files_start,
                                        .free_state = inspection_free};
