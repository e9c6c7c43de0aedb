/* The source location that sd-journal(3) would add is that of this file, and so says nothing. */
#define SD_JOURNAL_SUPPRESS_LOCATION

#include "dkimroll/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum {
  LOG_FIELD_MAX = 1280, /* an error's message, some of its octets escaped */
  LOG_FIELDS = 16,
  LOG_LINE_MAX = 4096, /* below PIPE_BUF, so that lines of several processes do not mix in a pipe */
};

/* sd-journal(3), "$JOURNAL_STREAM": device and inode of the stream; stderr may have been redirected since. */
static bool log_stderr_is_journal(void) {
  const char *stream = getenv("JOURNAL_STREAM");
  struct stat status;
  if (!stream || fstat(STDERR_FILENO, &status) < 0) return false;
  char actual[64];
  snprintf(actual, sizeof(actual), "%" PRIuMAX ":%" PRIuMAX, (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
  return text_equal(stream, actual);
}

void log_open(struct log *ret_log, enum log_level maximum) {
  *ret_log = (struct log){.maximum = maximum, .journal = log_stderr_is_journal()};
}

static const char *log_level_prefix(enum log_level level) {
  switch (level) {
  case LOG_LEVEL_ERROR: return "error: ";
  case LOG_LEVEL_WARNING: return "warning: ";
  case LOG_LEVEL_DEBUG: return "debug: ";
  case LOG_LEVEL_NOTICE:
  case LOG_LEVEL_INFO: break;
  }
  return "";
}

/* "example.com server-20260124 published -> ready: reason", as far as the fields are there. */
static void log_compose_message(const struct log_event *event, char *message, size_t size) {
  const char *domain = event->domain ? event->domain : "";
  const char *selector = event->selector ? event->selector : "";
  const char *from = event->from ? event->from : "";
  const char *to = event->to ? event->to : "";
  bool subject = domain[0] || selector[0] || from[0] || to[0];
  bool change = from[0] || to[0];
  snprintf(message, size, "%s%s%s%s%s%s%s%s%s", domain, domain[0] && selector[0] ? " " : "", selector,
           (domain[0] || selector[0]) && change ? " " : "", from, from[0] && to[0] ? " -> " : "", to,
           subject ? ": " : "", event->reason);
}

static bool log_write_journal(const struct log_event *event, const char *message) {
  char priority[2] = {(char)('0' + (int)event->level), '\0'};
  char number[32];
  snprintf(number, sizeof(number), "%lld", (long long)event->event);
  const struct {
    const char *name;
    const char *value;
  } fields[LOG_FIELDS] = {
      {"MESSAGE=", message},
      {"PRIORITY=", priority},
      {"SYSLOG_IDENTIFIER=", "dkimroll"},
      {"MESSAGE_ID=", log_message_id(event->kind)},
      {"DKIMROLL_KIND=", event->kind},
      {"DKIMROLL_EVENT=", event->event ? number : NULL},
      {"DKIMROLL_DOMAIN=", event->domain},
      {"DKIMROLL_KEY=", event->key},
      {"DKIMROLL_SELECTOR=", event->selector},
      {"DKIMROLL_FROM=", event->from},
      {"DKIMROLL_TO=", event->to},
      {"DKIMROLL_SERVER=", event->server},
      {"DKIMROLL_ERROR=", event->error},
      {"DKIMROLL_REMEDY=", event->remedy},
  };
  char texts[LOG_FIELDS][LOG_FIELD_MAX];
  struct iovec parts[LOG_FIELDS];
  int count = 0;
  for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
    if (!fields[i].value) continue;
    size_t name_length = strlen(fields[i].name);
    memcpy(texts[count], fields[i].name, name_length);
    text_printable(fields[i].value, strlen(fields[i].value), texts[count] + name_length, LOG_FIELD_MAX - name_length);
    parts[count] = (struct iovec){.iov_base = texts[count], .iov_len = strlen(texts[count])};
    count++;
  }
  return sd_journal_sendv(parts, count) >= 0;
}

static void log_write_stderr(const struct log_event *event, const char *message) {
  char reason[LOG_FIELD_MAX];
  char remedy[LOG_FIELD_MAX] = "";
  text_printable(message, strlen(message), reason, sizeof(reason));
  if (event->remedy) text_printable(event->remedy, strlen(event->remedy), remedy, sizeof(remedy));
  char line[LOG_LINE_MAX];
  int length = snprintf(line, sizeof(line), "%s%s%s%s\n", log_level_prefix(event->level), reason,
                        remedy[0] ? "; remedy: " : "", remedy);
  if (length <= 0) return;
  /* There is nowhere to report a log that cannot be written. */
  ssize_t ignored = write(STDERR_FILENO, line, (size_t)length);
  (void)ignored;
}

void log_write(const struct log *log, const struct log_event *event) {
  if (event->level > log->maximum) return;
  char message[LOG_FIELD_MAX];
  log_compose_message(event, message, sizeof(message));
  if (log->journal && log_write_journal(event, message)) return;
  log_write_stderr(event, message);
}
