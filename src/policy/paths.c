#include "dkimroll/policy.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

static int refuse_length(const char *directory_template, const char *domain, struct error *error) {
  return error_set(error, ERROR_LIMIT, "the path of the private key of %s below %s is longer than %d octets", domain,
                   directory_template, PATH_MAX - 1);
}

static int no_memory(struct error *error) {
  return error_set(error, ERROR_NO_MEMORY, "memory ran out while the path of a private key was made");
}

int policy_directory(const char *directory_template, const char *domain, char **ret_path, struct error *error) {
  size_t length = strlen(directory_template);
  for (const char *field = directory_template; (field = strchr(field, '%')); field += 2) {
    if (field[1] != 'd') {
      return error_set(error, ERROR_INVALID, "directory \"%s\" has a %% that is not %%d", directory_template);
    }
    length += strlen(domain);
  }
  if (length >= PATH_MAX) return refuse_length(directory_template, domain, error);
  struct buffer path = BUFFER_WITH_MAXIMUM(PATH_MAX);
  const char *at = directory_template;
  for (const char *field; (field = strchr(at, '%')); at = field + 2) {
    buffer_add(&path, at, (size_t)(field - at));
    buffer_add_text(&path, domain);
  }
  buffer_add_text(&path, at);
  char *text = buffer_take_text(&path);
  if (!text) {
    buffer_release(&path);
    return no_memory(error);
  }
  *ret_path = text;
  return 0;
}

int policy_signer_key_path(const struct policy_signer *signer, const char *domain, const char *selector,
                           char **ret_path, struct error *error) {
  CLEANUP_FREE char *directory = NULL;
  const int made = policy_directory(signer->key_directory, domain, &directory, error);
  if (made < 0) return made;
  CLEANUP_FREE char *path = text_format("%s/%s.private", directory, selector);
  if (!path) return no_memory(error);
  if (strlen(path) >= PATH_MAX) return refuse_length(signer->key_directory, domain, error);
  *ret_path = TAKE_PTR(path);
  return 0;
}

enum reload_kind policy_signer_restart(const struct policy_signer *signer, const char **ret_target) {
  const bool by_reload = signer->restart == RELOAD_NONE && signer->reload == RELOAD_UNIT;
  *ret_target = by_reload ? signer->reload_target : signer->restart_target;
  return by_reload ? RELOAD_UNIT : signer->restart;
}

char *policy_signer_key_name(const struct policy_signer *signer, const char *domain, const char *selector) {
  struct buffer name = BUFFER_WITH_MAXIMUM(POLICY_KEY_NAME_MAX);
  for (const char *p = signer->key_name; *p; p++) {
    if (p[0] == '%' && p[1] == 's')
      buffer_add_text(&name, selector);
    else if (p[0] == '%' && p[1] == 'd')
      buffer_add_text(&name, domain);
    else
      buffer_add(&name, p, 1);
    if (p[0] == '%' && (p[1] == 's' || p[1] == 'd')) p++;
  }
  char *text = buffer_take_text(&name);
  if (!text) buffer_release(&name);
  return text;
}

int policy_publisher_file(const struct policy_publisher *publisher, const char *zone, char **ret_path, struct error *error) {
  struct buffer path = BUFFER_WITH_MAXIMUM(PATH_MAX - 1);
  for (const char *at = publisher->file; *at; at++) {
    const bool field = at[0] == '%' && at[1] == 'z';
    if (field)
      buffer_add_text(&path, zone);
    else
      buffer_add(&path, at, 1);
    at += field;
  }
  const bool no_memory = path.no_memory;
  char *text = buffer_take_text(&path);
  if (!text && !no_memory) return error_set(error, ERROR_LIMIT, "the path of the fragment of zone %s is longer than %d octets", zone, PATH_MAX - 1);
  if (!text) return error_set(error, ERROR_NO_MEMORY, "memory ran out while the path of a fragment was made");
  *ret_path = text;
  return 0;
}
