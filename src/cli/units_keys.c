/* Whose keys live that were made under an earlier policy: the keeper removes their files and lines where they are, so its unit must let it write there. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/grants.h"
#include "dkimroll/session.h"
#include "dkimroll/text.h"
#include "dkimroll/units.h"

void units_signers_release(struct units_signers *signers) {
  for (size_t i = 0; i < signers->count; i++) policy_signer_free(signers->items[i]);
  free(signers->items);
  *signers = (struct units_signers){.items = NULL};
}

/* ---- what the database says ---- */

static int add_line(void *context, const void *row) {
  struct error unused;
  CLEANUP_FREE char *text = NULL;
  if (policy_signer_format(row, &text, &unused)) return ERROR_NO_MEMORY;
  buffer_format(context, "%s\n", text);
  return 0;
}

/* A line for each version of a signer. Before the first run there is no database. */
static int read_lines(const struct session *session, struct buffer *lines, struct error *error) {
  static const struct store_filter all;
  struct store *store = NULL;
  int result = session->cli->wiring->open_store(session->state, true, &store, error);
  if (result == ERROR_NOT_FOUND) return 0;
  if (result) return result;
  result = store->ops->select(store, STORE_SELECT_LIVING_SIGNERS, &all, add_line, lines, error);
  store_close(store);
  if (!result && lines->failed) result = error_set(error, ERROR_LIMIT, "%s: more signers than fit", session->state);
  return result;
}

/* In the child: as the owner of the database, since root does not open what others may have made. */
static int tell_lines(struct session *session, int descriptor) {
  CLEANUP(buffer_release) struct buffer lines = BUFFER_WITH_MAXIMUM(UNITS_SIGNERS_TEXT_MAX);
  struct error error = {0};
  int result = session_drop(session, &error);
  if (!result) result = read_lines(session, &lines, &error);
  const char *const octets = result ? error.message : (const char *)lines.data;
  for (size_t at = 0, size = result ? strlen(error.message) : lines.size; at < size;) {
    const ssize_t written = write(descriptor, octets + at, size - at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return EXIT_FAILURE;
    at += (size_t)written;
  }
  return result ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int hear_lines(int descriptor, struct buffer *lines, struct error *error) {
  char part[4096];
  for (ssize_t size; (size = read(descriptor, part, sizeof part)) != 0;) {
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return error_set_errno(error, errno, "cannot hear what the database says");
    buffer_add(lines, part, (size_t)size);
  }
  return lines->failed ? error_set(error, ERROR_LIMIT, "the database says more than %d octets of signers", UNITS_SIGNERS_TEXT_MAX) : 0;
}

static int ask_owner(struct session *session, struct buffer *lines, struct error *error) {
  int ends[2], status = 0;
  if (pipe2(ends, O_CLOEXEC) < 0) return error_set_errno(error, errno, "cannot make a pipe");
  CLEANUP_CLOSE int ours = ends[0];
  CLEANUP_CLOSE int theirs = ends[1];
  fflush(NULL);
  const pid_t pid = fork();
  if (pid < 0) return error_set_errno(error, errno, "cannot start a process that reads the database");
  if (pid == 0) {
    close(TAKE_FD(ours));
    _exit(tell_lines(session, theirs));
  }
  close(TAKE_FD(theirs));
  int result = hear_lines(ours, lines, error);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (result || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS)) return result;
  buffer_add_u8(lines, '\0');
  return error_set(error, ERROR_SYSTEM, "%s", lines->failed || lines->size == 1 ? "the process that reads the database has ended" : (const char *)lines->data);
}

/* ---- what of it is believed ---- */

static bool is_granted(const struct grants *grants, const char *line) {
  for (size_t i = 0; i < grants->count; i++)
    if (grants->items[i].signer && text_equal(grants->items[i].line + strlen(GRANTS_WORD_SIGNER), line)) return true;
  return false;
}

static int take_line(const struct grants *grants, const char *line, struct units_signers *signers, struct error *error) {
  struct policy_signer *signer = NULL;
  if (grants && !is_granted(grants, line)) return 0;
  struct policy_signer **items = reallocarray(signers->items, signers->count + 1, sizeof *items);
  if (!items) return error_set(error, ERROR_NO_MEMORY, "out of memory for signers");
  signers->items = items;
  const int result = policy_signer_parse(line, &signer, error);
  if (!result) signers->items[signers->count++] = signer;
  return result;
}

/* grants NULL: every line is believed. */
static int take_lines(const struct grants *grants, char *text, struct units_signers *signers, struct error *error) {
  int result = 0;
  for (char *line = text, *end; !result && (end = strchr(line, '\n')); line = end + 1) {
    *end = '\0';
    result = take_line(grants, line, signers, error);
  }
  return result;
}

int units_read_signers(struct session *session, struct units_signers *ret_signers, struct error *error) {
  CLEANUP(buffer_release) struct buffer lines = BUFFER_WITH_MAXIMUM(UNITS_SIGNERS_TEXT_MAX + 1);
  CLEANUP(units_signers_release) struct units_signers signers = {.items = NULL};
  CLEANUP(grants_release) struct grants grants = {0};
  int result = session_find_state(session, error);
  const bool drops = !result && session_will_drop(session);
  if (!result) result = drops ? ask_owner(session, &lines, error) : read_lines(session, &lines, error);
  /* The database is that of the side which talks to the network; the keeper does nothing that root did not write down. */
  if (!result && drops) result = grants_read(session->cli->separation->grants_directory, &grants, error);
  buffer_add_u8(&lines, '\0');
  if (!result && lines.failed) result = error_set(error, ERROR_NO_MEMORY, "out of memory for signers");
  if (!result) result = take_lines(drops ? &grants : NULL, (char *)lines.data, &signers, error);
  if (result) return result;
  *ret_signers = signers;
  signers = (struct units_signers){.items = NULL};
  return 0;
}
