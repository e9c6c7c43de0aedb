/* Structured log: to journald when stderr is its stream ($JOURNAL_STREAM, sd-journal(3)), else lines on stderr. Only engine, daemon and
 * cli call it above debug. */
#ifndef DKIMROLL_LOG_H
#define DKIMROLL_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* Values are those of syslog(3). */
enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* One event. In the journal the fields become DKIMROLL_KIND, _EVENT, _DOMAIN, _KEY, _SELECTOR, _FROM, _TO, _SERVER, _ERROR and _REMEDY beside MESSAGE, PRIORITY and, by
 * its kind, MESSAGE_ID; on stderr one line: "warning: example.com server-20260124 ready -> published: reason; remedy: ...". Fields may be NULL. Strings from outside are
 * made printable before they are written. */
struct log_event {
  enum log_level level;
  const char *kind; /* "state"; one of those that log_kinds.c has a MESSAGE_ID for has one */
  int64_t event;    /* row number in the store, as in `history --json`; 0: none */
  const char *domain;
  const char *key; /* slot */
  const char *selector;
  const char *from; /* key state before and after */
  const char *to;
  const char *server;  /* name server, host or address */
  const char *error;   /* "timeout": error_code_name */
  const char *reason;  /* the message; must not be NULL */
  const char *remedy;
};

/* sd-journal(3): 128 bits in hexadecimal that stand for a kind of message, the same in all versions; NULL: the kind has none. (log_kinds.c) */
const char *log_message_id(const char *kind);

struct log {
  enum log_level maximum; /* quieter ones are dropped */
  bool journal;
};

/* Decides once where lines go. */
void log_open(struct log *ret_log, enum log_level maximum);
void log_write(const struct log *log, const struct log_event *event);

#endif
