/* Which paths a job may name. The loop side talks to the network, so the keeper does not take its word for it. */
#include "dkimroll/key_roots.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

int key_path_normalise(const char *path, char **ret_path, struct error *error) {
  size_t length = strlen(path);
  if (path[0] != '/' || length >= PATH_MAX) {
    return error_set(error, ERROR_INVALID, "\"%s\" is not an absolute path of less than %d octets", path, PATH_MAX);
  }
  CLEANUP_FREE char *normal = calloc(1, length + 2);
  if (!normal) return error_set(error, ERROR_NO_MEMORY, "out of memory at the path %s", path);
  size_t used = 0;
  for (const char *part = path + strspn(path, "/"); *part != '\0'; part += strspn(part, "/")) {
    size_t size = strcspn(part, "/");
    if (size == 2 && part[0] == '.' && part[1] == '.') {
      return error_set(error, ERROR_INVALID, "the path %s leads upwards by \"..\"", path);
    }
    if (size != 1 || part[0] != '.') {
      normal[used++] = '/';
      memcpy(normal + used, part, size);
      used += size;
    }
    part += size;
  }
  if (used == 0) normal[0] = '/';
  *ret_path = TAKE_PTR(normal);
  return 0;
}

/* The directory that path_template is about. Caller frees. */
static int key_roots_find(const char *path_template, char **ret_root, struct error *error) {
  size_t fixed = strcspn(path_template, "%");
  CLEANUP_FREE char *start = strndup(path_template, fixed);
  if (!start) return error_set(error, ERROR_NO_MEMORY, "out of memory at the path %s", path_template);
  /* Without a field the template is the directory itself, and its parent is nobody's business. */
  char *slash = strrchr(start, '/');
  if (path_template[fixed] == '%' && slash) slash[1] = '\0';
  CLEANUP_FREE char *root = NULL;
  int result = key_path_normalise(start, &root, error);
  if (result < 0) return result;
  if (text_equal(root, "/")) {
    error_set(error, ERROR_INVALID, "\"%s\" would let keys be anywhere on this host", path_template);
    error_remedy(error, "name a directory before the first %%-field, as in /etc/opendkim/keys/%%d");
    return ERROR_INVALID;
  }
  *ret_root = TAKE_PTR(root);
  return 0;
}

int key_roots_add(struct key_roots *roots, const char *path_template, struct error *error) {
  CLEANUP_FREE char *root = NULL;
  int result = key_roots_find(path_template, &root, error);
  if (result < 0) return result;
  for (size_t i = 0; i < roots->count; i++) {
    if (text_equal(roots->paths[i], root)) return 0;
  }
  if (roots->count == KEY_ROOTS_MAX) {
    error_set(error, ERROR_LIMIT, "keys lie below more than %d different directories", KEY_ROOTS_MAX);
    error_remedy(error, "let signers share a directory: write %%d for the domain in key-directory of the policy");
    return ERROR_LIMIT;
  }
  roots->paths[roots->count++] = TAKE_PTR(root);
  return 0;
}

int key_roots_add_signer(struct key_roots *roots, const struct policy_signer *signer, struct error *error) {
  int result = key_roots_add(roots, signer->key_directory, error);
  CLEANUP_FREE char *root = NULL;
  if (result == 0) result = key_roots_find(signer->key_directory, &root, error);
  if (result < 0) return result;
  if (roots->rights_count == KEY_RIGHTS_MAX)
    return error_set(error, ERROR_LIMIT, "keys are made for more than %d signers, earlier versions among them", KEY_RIGHTS_MAX);
  struct key_rights *rights = reallocarray(roots->rights, roots->rights_count + 1, sizeof(*rights));
  if (rights) roots->rights = rights;
  CLEANUP_FREE char *owner = text_duplicate(signer->owner);
  if (!rights || (signer->owner && !owner)) return error_set(error, ERROR_NO_MEMORY, "out of memory at the signer %s", signer->name);
  rights[roots->rights_count++] = (struct key_rights){.root = TAKE_PTR(root), .owner = TAKE_PTR(owner), .mode = signer->mode};
  return 0;
}

void key_roots_release(struct key_roots *roots) {
  if (!roots) return;
  for (size_t i = 0; i < roots->count; i++) free(roots->paths[i]);
  for (size_t i = 0; i < roots->rights_count; i++) {
    free(roots->rights[i].root);
    free(roots->rights[i].owner);
  }
  free(roots->rights);
  *roots = (struct key_roots){.count = 0};
}

static bool key_path_is_below(const char *path, const char *root) {
  size_t length = strlen(root);
  return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* The longest part of directory that exists, cut in place; as long as root if nothing below that does. */
static int key_path_cut_existing(char *directory, const char *root, struct error *error) {
  struct stat status;
  while (strlen(directory) > strlen(root) && stat(directory, &status) < 0) {
    if (errno != ENOENT) return error_set_errno(error, errno, "cannot look at the directory %s", directory);
    *strrchr(directory, '/') = '\0';
  }
  return 0;
}

/* A link below the root must not lead out of it: whoever may write there, as a signer does in its own directory, could otherwise
 * turn the keeper's rights to any place. The root itself may be a link, since it was named by the policy. */
static int key_roots_check_links(const char *root, const char *directory, struct error *error) {
  CLEANUP_FREE char *existing = text_duplicate(directory);
  CLEANUP_FREE char *real_directory = NULL;
  CLEANUP_FREE char *real_root = NULL;
  if (!existing) return error_set(error, ERROR_NO_MEMORY, "out of memory at the path %s", directory);
  int result = key_path_cut_existing(existing, root, error);
  if (result < 0 || strlen(existing) <= strlen(root)) return result;
  result = file_resolve(existing, &real_directory, error);
  if (result == 0) result = file_resolve(root, &real_root, error);
  if (result != 0 || !real_directory || !real_root || key_path_is_below(real_directory, real_root)) return result;
  error_set(error, ERROR_PERMISSION, "%s leads by a symbolic link to %s, which is not below %s", existing,
            real_directory, real_root);
  error_remedy(error, "name that directory in the policy (key-directory, archive-directory), or remove the link");
  return ERROR_PERMISSION;
}

int key_roots_check(const struct key_roots *roots, const char *directory, struct error *error) {
  int result = ERROR_PERMISSION;
  error_set(error, ERROR_PERMISSION, "the directory %s is not one where the policy keeps keys", directory);
  error_remedy(error,
               "if it was added to the policy (key-directory, archive-directory) just now, start dkimroll again");
  for (size_t i = 0; i < roots->count && result < 0; i++) {
    if (!key_path_is_below(directory, roots->paths[i])) continue;
    result = key_roots_check_links(roots->paths[i], directory, error);
  }
  return result;
}

int key_roots_resolve_file(const struct key_roots *roots, const char *path, char **ret_real, struct error *error) {
  CLEANUP_FREE char *real = NULL;
  int result = file_resolve(path, &real, error);
  if (result < 0) return result;
  for (size_t i = 0; i < roots->count; i++) {
    CLEANUP_FREE char *root = NULL;
    struct error reason = {0};
    result = file_resolve(roots->paths[i], &root, &reason);
    if (result < 0 && result != ERROR_NOT_FOUND) {
      if (error) *error = reason;
      return result;
    }
    if (result < 0 || !key_path_is_below(real, root)) continue;
    *ret_real = TAKE_PTR(real);
    return 0;
  }
  error_set(error, ERROR_PERMISSION, "%s is a symbolic link to %s, which is not in a directory where the policy keeps keys", path, real);
  error_remedy(error, "name that directory in the policy (key-directory), or put the private key itself in the place of the link");
  return ERROR_PERMISSION;
}

int key_roots_check_rights(const struct key_roots *roots, const char *directory, const char *owner, mode_t mode,
                           struct error *error) {
  for (size_t i = 0; i < roots->rights_count; i++) {
    const struct key_rights *rights = &roots->rights[i];
    if (key_path_is_below(directory, rights->root) && rights->mode == mode &&
        text_equal(rights->owner ? rights->owner : "", owner ? owner : ""))
      return 0;
  }
  if (roots->rights_count == 0) return 0;
  error_set(error, ERROR_PERMISSION, "no signer of the policy has keys of \"%s\" with mode %04o in %s", owner ? owner : "", (unsigned)mode,
            directory);
  error_remedy(error, "if owner or mode of a signer were changed in the policy just now, start dkimroll again");
  return ERROR_PERMISSION;
}
