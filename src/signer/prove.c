#include "dkimroll/prove.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum { PROVE_DATE_SIZE = 64, PROVE_ID_SIZE = 40, PROVE_HEADERS = 5 };

/* A message as it is sent. */
struct prove_letter {
  char date[PROVE_DATE_SIZE];
  char queue_id[PROVE_ID_SIZE];
  char *id; /* owned */
  struct milter_header headers[PROVE_HEADERS];
  struct milter_message message;
};

struct prove {
  struct connector *connector;
  struct loop *loop;
  struct entropy *entropy;
  prove_done *done;
  void *context;
  char *milter_address; /* owned */
  struct prove_request request;
  bool *proved;                 /* of each message */
  struct prove_result *results; /* of each group */
  struct milter *milter;
  struct loop_source *timer; /* back-off before the next connection */
  unsigned retry_ms;
  size_t first;    /* message that the present connection began with */
  size_t current;  /* message under way */
  size_t seen;     /* messages of this round that are done with, or passed over */
  bool any_proved; /* on this connection */
  struct prove_letter letter;
  struct error connection;
};

static void prove_free(struct prove *prove) {
  if (!prove) return;
  milter_close(prove->milter);
  loop_cancel(prove->loop, &prove->timer);
  free(prove->letter.id);
  free(prove->milter_address);
  free(prove->proved);
  free(prove->results);
  free(prove);
}

static void prove_finish(struct prove *prove) {
  prove->done(prove->context, &prove->connection, prove->results, prove->request.group_count);
  prove_free(prove);
}

/* RFC 5322 section 3.3; strftime(3) would write the names of the locale. */
static void prove_format_date(int64_t wall, char buffer[PROVE_DATE_SIZE]) {
  static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  time_t moment = (time_t)wall;
  struct tm parts = {0};
  gmtime_r(&moment, &parts);
  snprintf(buffer, PROVE_DATE_SIZE, "%s, %d %s %d %02d:%02d:%02d +0000", days[parts.tm_wday % 7], parts.tm_mday,
           months[parts.tm_mon % 12], parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

static bool prove_write_letter(struct prove *prove, const struct prove_message *message) {
  struct prove_letter *letter = &prove->letter;
  uint8_t octets[8];
  prove->entropy->fill(prove->entropy, octets, sizeof(octets));
  uint64_t number = 0;
  memcpy(&number, octets, sizeof(number));
  snprintf(letter->queue_id, sizeof(letter->queue_id), "dkimroll-%016llx", (unsigned long long)number);
  prove_format_date(loop_wall(prove->loop), letter->date);
  free(letter->id);
  letter->id = text_format("<%s@%s>", letter->queue_id, message->domain);
  if (!letter->id) return false;
  const struct milter_header headers[PROVE_HEADERS] = {{"From", message->address},
                                                       {"To", message->address},
                                                       {"Subject", "dkimroll proof: never delivered"},
                                                       {"Date", letter->date},
                                                       {"Message-ID", letter->id}};
  memcpy(letter->headers, headers, sizeof(headers));
  letter->message = (struct milter_message){.queue_id = letter->queue_id,
                                            .sender = message->address,
                                            .recipient = message->address,
                                            .headers = letter->headers,
                                            .header_count = PROVE_HEADERS,
                                            .body = "This message only shows which key signs.\r\n"};
  return true;
}

/* Verdicts that a new connection may change, at this moment. */
static bool prove_may_retry(const struct prove *prove, enum prove_verdict verdict, int64_t now) {
  return now < (verdict == PROVE_BEFORE ? prove->request.patience : prove->request.settle);
}

static bool prove_connection_may_retry(const struct prove *prove, int64_t now) {
  switch (prove->connection.code) {
  case ERROR_BUSY: return now < prove->request.patience;
  case ERROR_UNREACHABLE:
  case ERROR_REFUSED:
  case ERROR_PROOF: return now < prove->request.settle;
  default: return false;
  }
}

/* Whether any message that is not proved is worth another connection. */
static bool prove_is_unfinished(const struct prove *prove) {
  int64_t now = loop_boottime(prove->loop);
  if (prove->connection.code && !prove_connection_may_retry(prove, now)) return false;
  if (prove->connection.code) return true;
  for (size_t i = 0; i < prove->request.count; i++) {
    const struct prove_result *result = &prove->results[prove->request.messages[i].group];
    if (!prove->proved[i] && (result->verdict == PROVE_PENDING || prove_may_retry(prove, result->verdict, now)))
      return true;
  }
  return false;
}

static void prove_connect(void *context);

/* Judges groups once all that can be seen was seen. */
static void prove_conclude(struct prove *prove) {
  for (size_t i = 0; i < prove->request.group_count; i++)
    if (prove->results[i].verdict == PROVE_PENDING) prove->results[i].verdict = PROVE_SIGNED;
  for (size_t i = 0; i < prove->request.count; i++) {
    struct prove_result *result = &prove->results[prove->request.messages[i].group];
    if (prove->proved[i] || result->verdict != PROVE_SIGNED) continue;
    result->verdict = PROVE_NO_ANSWER;
    result->error = prove->connection;
    if (prove->connection.code == 0)
      error_set(&result->error, ERROR_TIMEOUT, "milter %s: no time was left to prove this sender",
                prove->milter_address);
  }
}

/* What was seen last might have changed: it is no verdict for ever. */
static void prove_note_unasked(struct prove *prove) {
  static const char why[] = "out of memory for another look at the signer; at the last one";
  if (prove->connection.code) {
    error_context(&prove->connection, "%s", why);
    error_retryable(&prove->connection, true);
  }
  for (size_t i = 0; i < prove->request.group_count; i++) {
    struct error *error = &prove->results[i].error;
    if (!error->code) continue;
    error_context(error, "%s", why);
    error_retryable(error, true);
  }
}

static void prove_end_round(struct prove *prove) {
  milter_close(prove->milter);
  prove->milter = NULL;
  if (prove_is_unfinished(prove)) {
    int64_t at = loop_boottime(prove->loop) + prove->retry_ms;
    prove->retry_ms = prove->retry_ms * 2 < PROVE_RETRY_MS_MAX ? prove->retry_ms * 2 : PROVE_RETRY_MS_MAX;
    if (at < prove->request.deadline) {
      if (loop_at(prove->loop, at, prove_connect, prove, &prove->timer) == 0) return;
      prove_note_unasked(prove);
    }
  }
  prove_conclude(prove);
  prove_finish(prove);
}

/* The next message that this connection should carry; false: none is left. Of a group that failed on it the others are
 * not sent. */
static bool prove_choose(struct prove *prove) {
  for (; prove->seen < prove->request.count; prove->seen++) {
    size_t index = (prove->first + prove->seen) % prove->request.count;
    if (prove->proved[index] || prove->results[prove->request.messages[index].group].verdict != PROVE_PENDING) continue;
    prove->current = index;
    return true;
  }
  return false;
}

static void prove_send_next(struct prove *prove) {
  if (!prove_choose(prove)) {
    prove_end_round(prove);
    return;
  }
  if (!prove_write_letter(prove, &prove->request.messages[prove->current])) {
    error_set(&prove->connection, ERROR_NO_MEMORY, "milter %s: out of memory", prove->milter_address);
    prove_end_round(prove);
    return;
  }
  milter_send(prove->milter, &prove->letter.message);
}

static void prove_take_answer(struct prove *prove, const struct milter_answer *answer) {
  const struct prove_message *message = &prove->request.messages[prove->current];
  struct prove_result *result = &prove->results[message->group];
  struct prove_sight sight = {.message = &prove->letter.message, .answer = answer, .now = loop_wall(prove->loop)};
  struct error error = {0};
  enum prove_verdict verdict = prove_judge(message, &sight, &error);
  result->completed_at = sight.now;
  prove->seen++;
  if (verdict == PROVE_SIGNED) {
    prove->proved[prove->current] = true;
    prove->any_proved = true;
  } else {
    result->verdict = verdict;
    result->error = error;
  }
  /* A connection keeps the tables it began with, so all its other messages would most likely show the old keys too. The
   * next round begins behind this message, lest one that stays so keeps the others from being seen. */
  if (verdict == PROVE_BEFORE && !prove->any_proved && prove_may_retry(prove, verdict, loop_boottime(prove->loop))) {
    prove->first = (prove->current + 1) % prove->request.count;
    prove_end_round(prove);
    return;
  }
  prove_send_next(prove);
}

static void prove_event(void *context, const struct milter_answer *answer, const struct error *error) {
  struct prove *prove = context;
  if (error->code) {
    prove->connection = *error;
    prove_end_round(prove);
  } else if (answer) {
    prove_take_answer(prove, answer);
  } else {
    prove_send_next(prove);
  }
}

/* Begins a round: one connection for all that is not proved yet. */
static void prove_connect(void *context) {
  struct prove *prove = context;
  prove->timer = NULL;
  prove->connection = (struct error){0};
  prove->seen = 0;
  prove->any_proved = false;
  int64_t now = loop_boottime(prove->loop);
  for (size_t i = 0; i < prove->request.group_count; i++) {
    struct prove_result *result = &prove->results[i];
    if (result->verdict == PROVE_PENDING || !prove_may_retry(prove, result->verdict, now)) continue;
    result->verdict = PROVE_PENDING;
    result->error = (struct error){0};
  }
  struct error error = {0};
  if (milter_open(prove->connector, prove->milter_address, prove->request.deadline, prove_event, prove, &prove->milter,
                  &error) == 0)
    return;
  prove->connection = error;
  prove_end_round(prove);
}

static void cleanup_prove(struct prove **prove) {
  prove_free(*prove);
}

int prove_start(struct connector *connector, struct entropy *entropy, const struct prove_request *request,
                prove_done *done, void *context, struct prove **ret_prove, struct error *error) {
  struct sockaddr_storage address;
  socklen_t size = 0;
  int result = milter_parse_address(request->milter, &address, &size, error);
  if (result < 0) return result;
  if (request->count > PROVE_MESSAGES_MAX)
    return error_set(error, ERROR_LIMIT, "more than %d messages to prove at once", PROVE_MESSAGES_MAX);
  CLEANUP(cleanup_prove) struct prove *prove = calloc(1, sizeof(*prove));
  if (!prove) return error_set(error, ERROR_NO_MEMORY, "proof: out of memory");
  prove->connector = connector;
  prove->loop = connector->loop;
  prove->entropy = entropy;
  prove->done = done;
  prove->context = context;
  prove->request = *request;
  prove->retry_ms = PROVE_RETRY_MS_MIN;
  prove->milter_address = text_duplicate(request->milter);
  prove->proved = calloc(request->count + 1, sizeof(*prove->proved));
  prove->results = calloc(request->group_count + 1, sizeof(*prove->results));
  if (!prove->milter_address || !prove->proved || !prove->results ||
      loop_defer(prove->loop, prove_connect, prove, &prove->timer) < 0)
    return error_set(error, ERROR_NO_MEMORY, "proof: out of memory");
  *ret_prove = TAKE_PTR(prove);
  return 0;
}

void prove_cancel(struct prove **prove) {
  prove_free(*prove);
  *prove = NULL;
}
