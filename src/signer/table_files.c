#include "dkimroll/table_files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

/* The new content waits under this name beside the table. Under the lock there is at most one; a crash leaves it, the
 * next edit removes it. */
#define TABLE_NEXT_MARK FILE_TEMPORARY_MARK "next"

static const mode_t TABLE_CREATE_MODE = 0644;

/* One table on its way from disk to disk. */
struct table_file {
  const char *label; /* "KeyTable" */
  char *path;        /* resolved */
  char *next;        /* where the new content waits */
  bool waiting;      /* it does */
  struct stat status;
  char *before; /* as it was read */
  size_t before_size;
  struct table *table;
};

static void table_file_release(struct table_file *file) {
  if (file->waiting) unlink(file->next);
  table_free(file->table);
  free(file->before);
  free(file->next);
  free(file->path);
}

static void table_file_forget(struct table_file *file) {
  if (file->waiting) unlink(file->next);
  file->waiting = false;
  table_free(file->table);
  file->table = NULL;
  free(file->before);
  file->before = NULL;
}

static int table_file_explain(const struct table_file *file, const char *path, int result, struct error *error) {
  error_context(error, "%s", file->label);
  if (result == ERROR_PERMISSION)
    error_remedy(error,
                 "dkimroll replaces %s as a whole: its user needs write permission for the directory, and the right to "
                 "keep the owner of the file; "
                 "see also ReadWritePaths= of dkimroll-keeper@.service, which must name the directory",
                 path);
  return result;
}

/* Makes an empty table, which OpenDKIM reads as one without entries. */
static int table_file_create(const char *path, struct error *error) {
  CLEANUP_FREE char *directory = text_duplicate(path);
  if (!directory) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", path);
  char *slash = strrchr(directory, '/');
  if (!slash) return error_set(error, ERROR_CONFIG, "%s: is not an absolute path", path);
  slash[slash == directory ? 1 : 0] = '\0';
  struct stat status;
  if (stat(directory, &status) < 0) {
    int result = error_set_errno(error, errno, "%s: the directory %s", path, directory);
    if (result == ERROR_NOT_FOUND)
      error_remedy(error, "make %s as the signer's configuration has it, or correct the path in the policy", directory);
    return result;
  }
  struct file_rights rights = {.owner = status.st_uid, .group = status.st_gid, .mode = TABLE_CREATE_MODE};
  int result = file_create(path, "", 0, &rights, error);
  return result == ERROR_EXISTS ? 0 : result; /* Somebody else was faster. */
}

static int table_file_locate(struct table_file *file, const char *path, bool create, struct error *error) {
  struct error missing = {0};
  int result = file_resolve_foreign(path, &file->path, &missing);
  if (result == ERROR_NOT_FOUND && create) {
    result = table_file_create(path, &missing);
    if (result == 0) result = file_resolve_foreign(path, &file->path, &missing);
  }
  if (result < 0) {
    const bool explained = missing.remedy[0] != '\0';
    if (error) *error = missing;
    if (explained)
      error_context(error, "%s", file->label);
    else
      table_file_explain(file, path, result, error);
    if (result == ERROR_NOT_FOUND && !create)
      error_remedy(
          error, "dkimroll would make it, but OpenDKIM does not start without it: install -m 0644 /dev/null %s", path);
    return result;
  }
  const char *name = strrchr(file->path, '/') + 1;
  file->next = text_format("%.*s.%s" TABLE_NEXT_MARK, (int)(name - file->path), file->path, name);
  return file->next ? 0 : error_set(error, ERROR_NO_MEMORY, "%s: out of memory", path);
}

static int table_file_read(struct table_file *file, enum table_kind kind, struct error *error) {
  int result = file_read(file->path, TABLE_FILE_MAX, &file->before, &file->before_size, &file->status, error);
  if (result < 0) return table_file_explain(file, file->path, result, error);
  char *data = malloc(file->before_size + 1);
  if (!data) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", file->path);
  memcpy(data, file->before, file->before_size + 1);
  result = table_parse(kind, file->path, data, file->before_size, &file->table, error);
  if (result < 0) free(data);
  return result;
}

/* Puts the new content beside the table, complete and synced. */
static int table_file_prepare(struct table_file *file, struct error *error) {
  if (!table_is_changed(file->table)) return 0;
  struct buffer text = BUFFER_WITH_MAXIMUM(TABLE_FILE_MAX);
  table_format(file->table, &text);
  if (text.failed) {
    const bool no_memory = text.no_memory;
    buffer_release(&text);
    if (no_memory) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", file->path);
    return error_set(error, ERROR_LIMIT, "%s: would have more than %d octets", file->path, TABLE_FILE_MAX);
  }
  struct file_rights rights = {
      .owner = file->status.st_uid, .group = file->status.st_gid, .mode = file->status.st_mode & 07777};
  unlink(file->next);
  int result = file_create(file->next, text.data ? (const char *)text.data : "", text.size, &rights, error);
  buffer_release(&text);
  if (result < 0) return table_file_explain(file, file->path, result, error);
  file->waiting = true;
  return 0;
}

/* Is the file still the one that was read, octet for octet? */
static bool table_file_is_unchanged(const struct table_file *file) {
  CLEANUP_FREE char *now = NULL;
  size_t size = 0;
  struct stat status;
  return file_read(file->path, TABLE_FILE_MAX, &now, &size, &status, NULL) == 0 && size == file->before_size &&
         status.st_dev == file->status.st_dev && status.st_ino == file->status.st_ino &&
         status.st_uid == file->status.st_uid && status.st_gid == file->status.st_gid &&
         status.st_mode == file->status.st_mode && memcmp(now, file->before, size) == 0;
}

static int table_file_commit(struct table_file *file, struct error *error) {
  /* As it is wanted already: perhaps by an attempt that was killed, or failed, before the name was durable. */
  if (!file->waiting) return file_sync_parent(file->path, error);
  if (rename(file->next, file->path) < 0) {
    error_set_errno(error, errno, "%s: cannot rename the new file to it", file->path);
    return table_file_explain(file, file->path, error ? error->code : ERROR_SYSTEM, error);
  }
  file->waiting = false;
  return file_sync_parent(file->path, error);
}

/* Both, with what to do with them. */
struct table_work {
  const struct table_files *files;
  struct table_file keys, signing;
  table_key_file_exists *exists; /* NULL: not asked */
  const struct table_item *items;
  size_t count;
  struct table_outcome *outcomes;
};

static void table_work_release(struct table_work *work) {
  table_file_release(&work->keys);
  table_file_release(&work->signing);
}

static bool table_key_file_is_there(const char *path) {
  struct stat status;
  /* Not being allowed to look is no proof that it is missing. */
  return stat(path, &status) == 0 ? S_ISREG(status.st_mode) : errno != ENOENT && errno != ENOTDIR;
}

static int table_work_locate(struct table_work *work, bool create, struct error *error) {
  work->keys.label = "KeyTable";
  work->signing.label = "SigningTable";
  int result = table_file_locate(&work->keys, work->files->key_table, create, error);
  if (result == 0) result = table_file_locate(&work->signing, work->files->signing_table, create, error);
  if (result < 0) return result;
  if (!text_equal(work->keys.path, work->signing.path)) return 0;
  error_set(error, ERROR_CONFIG, "%s is both KeyTable and SigningTable", work->keys.path);
  error_remedy(error, "give key-table and signing-table of the signer two files, as in opendkim.conf");
  return ERROR_CONFIG;
}

/* Reads both and applies the items in memory. */
static int table_work_apply(struct table_work *work, struct error *error) {
  table_file_forget(&work->keys);
  table_file_forget(&work->signing);
  bool refile = work->files->format == SIGNING_TABLE_REFILE;
  int result = table_file_read(&work->keys, TABLE_KEYS, error);
  if (result == 0) result = table_file_read(&work->signing, refile ? TABLE_SIGNING_REFILE : TABLE_SIGNING_FILE, error);
  if (result < 0) return result;
  struct table_pair pair = {.keys = work->keys.table,
                            .signing = work->signing.table,
                            .multiple_signatures = work->files->multiple_signatures,
                            .exists = work->exists};
  return table_apply(&pair, work->items, work->count, work->outcomes, error);
}

static bool table_work_takes_keys(const struct table_work *work) {
  for (size_t i = 0; i < work->count; i++)
    for (size_t j = 0; j < work->items[i].edit_count; j++)
      if (work->items[i].edits[j].kind == TABLE_KEY_REMOVE) return true;
  return false;
}

static int table_work_commit(struct table_work *work, struct error *error) {
  bool keys_first = !table_work_takes_keys(work);
  int result = table_file_commit(keys_first ? &work->keys : &work->signing, error);
  return result < 0 ? result : table_file_commit(keys_first ? &work->signing : &work->keys, error);
}

int table_files_edit(const struct table_files *files, const struct table_item *items, size_t count,
                     struct table_outcome *outcomes, struct error *error) {
  CLEANUP(table_work_release)
  struct table_work work = {
      .files = files, .exists = table_key_file_is_there, .items = items, .count = count, .outcomes = outcomes};
  int result = table_work_locate(&work, true, error);
  if (result < 0) return result;
  CLEANUP_CLOSE int lock = -1;
  result = file_lock(work.keys.path, &lock, error);
  if (result < 0) return table_file_explain(&work.keys, work.keys.path, result, error);
  for (int attempt = 0; attempt < TABLE_FILES_ATTEMPTS_MAX; attempt++) {
    result = table_work_apply(&work, error);
    if (result == 0) result = table_file_prepare(&work.keys, error);
    if (result == 0) result = table_file_prepare(&work.signing, error);
    if (result < 0) return result;
    if (table_file_is_unchanged(&work.keys) && table_file_is_unchanged(&work.signing))
      return table_work_commit(&work, error);
  }
  error_set(error, ERROR_CONFLICT, "%s and %s: somebody changes them again and again", work.keys.path,
            work.signing.path);
  error_remedy(error, "find out which program writes them (fuser, auditctl) and stop it; dkimroll tries again");
  error_retryable(error, true);
  return ERROR_CONFLICT;
}

static int table_file_try_write(struct table_file *file, struct error *error) {
  struct file_rights rights = {
      .owner = file->status.st_uid, .group = file->status.st_gid, .mode = file->status.st_mode & 07777};
  CLEANUP_FREE char *probe = text_format("%s-probe%d", file->next, (int)getpid());
  if (!probe) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", file->path);
  unlink(probe);
  int result = file_create(probe, "", 0, &rights, error);
  unlink(probe);
  return result < 0 ? table_file_explain(file, file->path, result, error) : 0;
}

int table_files_try(const struct table_files *files, const struct table_item *items, size_t count,
                    struct table_outcome *outcomes, struct error *error) {
  CLEANUP(table_work_release)
  struct table_work work = {.files = files, .items = items, .count = count, .outcomes = outcomes};
  int result = table_work_locate(&work, false, error);
  if (result == 0) result = table_work_apply(&work, error);
  if (result == 0) result = table_file_try_write(&work.keys, error);
  return result < 0 ? result : table_file_try_write(&work.signing, error);
}
