#include "dkimroll/session.h"
#include "dkimroll/text.h"

/* "failed" and "alarm" need a reader, the rest is the ordinary course of things. */
static enum log_level event_level(const struct event *event) {
  if (text_equal(event->kind, "alarm") || text_equal(event->kind, "lost") || text_equal(event->kind, "clock")) return LOG_LEVEL_WARNING;
  if (text_equal(event->kind, "failed")) return LOG_LEVEL_ERROR;
  if (text_equal(event->kind, "state")) return LOG_LEVEL_NOTICE;
  return LOG_LEVEL_INFO;
}

void event_log(const struct log *log, const struct event *event) {
  log_write(log, &(struct log_event){.level = event_level(event),
                                     .kind = event->kind,
                                     .event = event->id,
                                     .key = event->slot && event->slot[0] ? event->slot : NULL,
                                     .server = event->server[0] ? event->server : NULL,
                                     .error = event->error ? error_code_name(event->error) : NULL,
                                     .domain = event->domain && event->domain[0] ? event->domain : NULL,
                                     .selector = event->selector,
                                     .from = event->from,
                                     .to = event->to,
                                     .reason = event->reason});
}

void event_print(FILE *out, const struct event *event) {
  char moment[TIME_TEXT_SIZE];
  fprintf(out, "%s  %s", time_format(event->at, moment), event->domain);
  if (event->selector) fprintf(out, " %s", event->selector);
  if (event->from)
    fprintf(out, ": %s -> %s", event->from, event->to);
  else
    fprintf(out, ": %s", event->kind);
  if (event->reason && event->reason[0]) fprintf(out, " (%s)", event->reason);
  fputc('\n', out);
}
