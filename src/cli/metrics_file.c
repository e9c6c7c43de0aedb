/* The file for node_exporter. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/overview.h"
#include "dkimroll/text.h"

/* Where path leads, if it is a link to a file that is there; else path. Caller frees. */
static int find_target(const char *path, char **ret_target, struct error *error) {
  const int result = file_resolve(path, ret_target, NULL);
  if (result == 0) return 0;
  *ret_target = text_duplicate(path);
  return *ret_target ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory for metrics");
}

static int replace(const char *path, const void *octets, size_t size, struct error *error) {
  /* node_exporter is another user. There is no secret in it that `status` would not show. */
  const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = 0644};
  int result = file_replace(path, octets, size, &rights, error);
  if (result == ERROR_NOT_FOUND)
    error_remedy(error, "make the directory, let the user dkimroll write it (install -d -o dkimroll), and the unit (ReadWritePaths=): dkimroll(8), METRICS");
  if (result == ERROR_PERMISSION) error_remedy(error, "let the user dkimroll write the directory, and the unit (ReadWritePaths=): dkimroll(8), METRICS");
  return result;
}

int metrics_file_write(const char *path, const struct buffer *text, struct error *error) {
  CLEANUP_FREE char *target = NULL;
  const int result = find_target(path, &target, error);
  return result ? result : replace(target, text->data, text->size, error);
}

int metrics_file_touch(const char *path, int64_t run_at, struct error *error) {
  CLEANUP_FREE char *target = NULL;
  CLEANUP_FREE char *old = NULL;
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(METRICS_FILE_MAX + 64);
  size_t size = 0;
  char start[64];
  int result = find_target(path, &target, error);
  if (!result) result = file_read(target, METRICS_FILE_MAX, &old, &size, NULL, error);
  if (result) return result;
  snprintf(start, sizeof start, "\ndkimroll_%s ", metrics_family_name(METRIC_LAST_RUN));
  char *value = strstr(old, start);
  char *end = value ? strchr(value + 1, '\n') : NULL;
  if (!end) return error_set(error, ERROR_NOT_FOUND, "%s is not ours", path);
  buffer_add(&text, old, (size_t)(value - old) + strlen(start));
  buffer_format(&text, "%lld", (long long)run_at);
  buffer_add(&text, end, size - (size_t)(end - old));
  if (text.failed) return error_set(error, ERROR_NO_MEMORY, "out of memory for metrics");
  return replace(target, text.data, text.size, error);
}
