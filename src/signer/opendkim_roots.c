#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/text.h"

static void opendkim_way_release(struct opendkim_way *way) {
  free(way->target);
  for (size_t i = 0; way->command && way->command[i]; i++) free(way->command[i]);
  free(way->command);
}

static void opendkim_root_release(struct opendkim_root *root) {
  free(root->key_table);
  free(root->signing_table);
  free(root->key_prefix);
  opendkim_way_release(&root->reload);
  opendkim_way_release(&root->restart);
}

static int opendkim_root_no_memory(const struct policy_signer *signer, struct error *error) {
  return error_set(error, ERROR_NO_MEMORY, "signer %s: out of memory", signer->name);
}

static int opendkim_root_check_path(const struct policy_signer *signer, const char *path, const char *what,
                                    struct error *error) {
  if (path && path[0] == '/' && !strstr(path, "/../")) return 0;
  error_set(error, ERROR_INVALID, "signer %s: %s \"%s\" is no absolute path", signer->name, what, path ? path : "");
  error_remedy(error, "write the full path, from / and without \"..\"");
  return ERROR_INVALID;
}

static bool opendkim_way_copy(struct opendkim_way *way, enum reload_kind kind, const char *target, char *const *command, size_t count) {
  way->kind = kind;
  way->target = text_duplicate(target);
  if (target && !way->target) return false;
  if (kind != RELOAD_COMMAND) return true;
  way->command = calloc(count + 1, sizeof(char *));
  for (size_t i = 0; way->command && i < count; i++) {
    way->command[i] = text_duplicate(command[i]);
    if (!way->command[i]) return false;
  }
  return way->command != NULL;
}

static bool opendkim_root_copy(struct opendkim_root *root, const struct policy_signer *signer) {
  *root = (struct opendkim_root){.format = signer->signing_table_format,
                                 .multiple_signatures = signer->multiple_signatures,
                                 .key_table = text_duplicate(signer->key_table),
                                 .signing_table = text_duplicate(signer->signing_table),
                                 .key_prefix = text_duplicate(signer->key_directory)};
  const char *restart_target = NULL;
  const enum reload_kind restart = policy_signer_restart(signer, &restart_target);
  if (!root->key_table || !root->signing_table || !root->key_prefix) return false;
  char *field = strchr(root->key_prefix, '%');
  if (field) *field = '\0';
  root->key_prefix_whole = !field;
  return opendkim_way_copy(&root->reload, signer->reload, signer->reload_target, signer->reload_command, signer->reload_command_count) &&
         opendkim_way_copy(&root->restart, restart, restart_target, signer->restart_command, signer->restart_command_count);
}

bool opendkim_root_has_key(const struct opendkim_root *root, const char *path) {
  const size_t length = strlen(root->key_prefix);
  if (!text_starts(path, root->key_prefix)) return false;
  if (root->key_prefix_whole && length > 0 && root->key_prefix[length - 1] != '/' && path[length] != '/' && path[length] != '\0') return false;
  for (const char *part = path; part; part = strchr(part + 1, '/'))
    if (text_starts(part, "/..") && (part[3] == '/' || part[3] == '\0')) return false;
  return true;
}

int opendkim_roots_add(struct opendkim_roots *roots, const struct policy_signer *signer, struct error *error) {
  int result = opendkim_root_check_path(signer, signer->key_table, "key-table", error);
  if (result == 0) result = opendkim_root_check_path(signer, signer->signing_table, "signing-table", error);
  if (result == 0) result = opendkim_root_check_path(signer, signer->key_directory, "key-directory", error);
  if (result < 0) return result;
  if (signer->reload == RELOAD_COMMAND && signer->reload_command_count == 0)
    return error_set(error, ERROR_INVALID, "signer %s: its reload command is empty", signer->name);
  if (roots->count >= OPENDKIM_ROOTS_MAX)
    return error_set(error, ERROR_LIMIT, "signer %s: more than %d signers, earlier versions among them", signer->name,
                     OPENDKIM_ROOTS_MAX);
  struct opendkim_root *items = reallocarray(roots->items, roots->count + 1, sizeof(*items));
  if (!items) return opendkim_root_no_memory(signer, error);
  roots->items = items;
  struct opendkim_root root;
  if (!opendkim_root_copy(&root, signer)) {
    opendkim_root_release(&root);
    return opendkim_root_no_memory(signer, error);
  }
  roots->items[roots->count++] = root;
  return 0;
}

void opendkim_roots_release(struct opendkim_roots *roots) {
  for (size_t i = 0; i < roots->count; i++) opendkim_root_release(&roots->items[i]);
  free(roots->items);
  *roots = (struct opendkim_roots){0};
}
