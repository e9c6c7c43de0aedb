#include "dkimroll/ask.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

struct ask_place {
  struct address address;
  int64_t asked_at; /* the first attempt, boottime; 0: none yet */
  bool hopeless;    /* no route, or an answer that will not do: asking again changes nothing */
  bool truncated;   /* only TCP brings the whole answer */
};

struct ask {
  const struct asker *asker;
  struct ask_request request; /* name and addresses point to copies */
  ask_done *done;
  void *context;
  char name[DNS_NAME_TEXT_SIZE];
  struct ask_place places[ASK_ADDRESSES_MAX];
  size_t place;   /* being asked */
  unsigned round; /* attempts of every address so far */
  struct message_query query;
  struct transport_exchange *exchange;
  struct message *message; /* the accepted answer */
  uint8_t *octets;
  size_t size;
  bool starved;         /* the last attempt had an answer, for which there was no memory */
  struct error failure; /* of the last attempt that says something */
};

bool ask_failed_here(const struct error *error) {
  return error->code == ERROR_NO_MEMORY || error->code == ERROR_SYSTEM;
}

static void ask_forget_answer(struct ask *ask) {
  message_free(TAKE_PTR(ask->message));
  free(TAKE_PTR(ask->octets));
}

static void ask_free(struct ask *ask) {
  transport_cancel(ask->asker->transport, &ask->exchange);
  ask_forget_answer(ask);
  free(ask);
}

void ask_cancel(struct ask **ask) {
  if (!*ask) return;
  ask_free(*ask);
  *ask = NULL;
}

/* The callback may free everything that the ask borrows, so the ask goes first. */
static void ask_finish(struct ask *ask, const struct error *result) {
  ask_done *done = ask->done;
  void *context = ask->context;
  const struct error error = *result;
  struct message *message = TAKE_PTR(ask->message);
  uint8_t *octets = TAKE_PTR(ask->octets);
  const struct ask_answer answer = {.message = message, .octets = octets, .size = ask->size};
  ask_free(ask);
  done(context, error.code ? NULL : &answer, &error);
  message_free(message);
  free(octets);
}

static bool ask_uses_tcp(const struct ask *ask) {
  return ask->places[ask->place].truncated || ask->round >= ask->request.attempts;
}

static bool ask_accept(void *context, const uint8_t *octets, size_t size) {
  struct ask *ask = context;
  struct message *message = NULL;
  struct error error;
  if (message_parse(octets, size, &message, &error)) {
    ask->starved |= error.code == ERROR_NO_MEMORY;
    return false;
  }
  /* A server that does not understand the query may leave the question out of its refusal (RFC 1035 4.1.1 asks for no
   * more than the header). */
  const bool refusal = message->response && message->id == ask->query.id && message->question_type == 0 &&
                       (message->rcode == DNS_FORMERR || message->rcode == DNS_NOTIMP);
  const bool answers = message_answers(message, &ask->query) || refusal;
  uint8_t *copy = answers ? malloc(size) : NULL;
  if (!copy) {
    ask->starved |= answers;
    message_free(message);
    return false;
  }
  memcpy(copy, octets, size);
  ask->message = message;
  ask->octets = copy;
  ask->size = size;
  return true;
}

static void ask_exchanged(void *context, const struct error *result);

static int ask_send(struct ask *ask, struct error *error) {
  uint8_t octets[MESSAGE_QUERY_MAX];
  size_t size = 0;
  const int64_t now = loop_boottime(ask->asker->loop);
  struct ask_place *place = &ask->places[ask->place];
  if (place->asked_at == 0) place->asked_at = now;
  ask->starved = false;
  ask->query.id = entropy_u16(ask->asker->entropy);
  int result = message_build_query(&ask->query, octets, sizeof octets, &size, error);
  if (result) return result;
  const struct transport_request request = {
      .address = place->address,
      .protocol = ask_uses_tcp(ask) ? TRANSPORT_TCP : TRANSPORT_UDP,
      .octets = octets,
      .size = size,
      .deadline = time_min(now + ask->request.attempt_ms, ask->request.deadline),
  };
  return transport_exchange(ask->asker->transport, &request, ask_accept, ask_exchanged, ask, &ask->exchange, error);
}

/* The next address that may still answer, in this round or the next; false: there is none. */
static bool ask_advance(struct ask *ask) {
  const unsigned rounds = ask->request.attempts + ask->request.tcp_at_last;
  for (;;) {
    if (++ask->place == ask->request.address_count) {
      ask->place = 0;
      ask->round++;
    }
    if (ask->round >= rounds) return false;
    if (!ask->places[ask->place].hopeless) return true;
  }
}

/* "192.0.2.1:53: what happened". That an address family is missing here says less than any other failure. */
static void ask_note_failure(struct ask *ask, const struct error *failure) {
  char text[ADDRESS_TEXT_SIZE];
  const struct ask_place *place = &ask->places[ask->place];
  const int64_t elapsed = loop_boottime(ask->asker->loop) - place->asked_at;
  if (failure->code == ERROR_NO_ROUTE && ask->failure.code) return;
  address_format(&place->address, text);
  ask->failure = *failure;
  if (failure->code == ERROR_TIMEOUT)
    error_set(&ask->failure, ERROR_TIMEOUT, "%s: no answer in %lld s%s", text, (long long)((elapsed + 500) / 1000),
              place->truncated ? ", after a truncated one over UDP" : "");
  else if (!text_starts(failure->message, text))
    error_context(&ask->failure, "%s", text);
}

static void ask_go_on(struct ask *ask, const struct error *failure) {
  struct error next = *failure;
  do {
    struct ask_place *place = &ask->places[ask->place];
    const bool answered = ask->message != NULL;
    ask_note_failure(ask, &next);
    place->hopeless = answered || next.code == ERROR_NO_ROUTE;
    ask_forget_answer(ask);
    if (loop_boottime(ask->asker->loop) >= ask->request.deadline || !ask_advance(ask)) {
      ask_finish(ask, &ask->failure);
      return;
    }
  } while (ask_send(ask, &next));
}

static void ask_answered(struct ask *ask) {
  struct error error = {0};
  struct ask_place *place = &ask->places[ask->place];
  if (ask->message->truncated && !ask_uses_tcp(ask)) {
    ask_forget_answer(ask);
    place->truncated = true;
    if (ask_send(ask, &error)) ask_go_on(ask, &error);
  } else if (ask->message->truncated) {
    error_set(&error, ERROR_PROTOCOL, "the answer is truncated even over TCP");
    ask_go_on(ask, &error);
  } else if (ask->request.usable && !ask->request.usable(ask->context, ask->message, &error)) {
    ask_go_on(ask, &error);
  } else {
    ask_finish(ask, &error);
  }
}

static void ask_exchanged(void *context, const struct error *result) {
  struct ask *ask = context;
  ask->exchange = NULL;
  if (ask->request.tried) ask->request.tried(ask->context, &ask->places[ask->place].address, result);
  struct error error = *result;
  if (ask->starved && !ask->message) error_set(&error, ERROR_NO_MEMORY, "out of memory for its answer");
  if (ask->message)
    ask_answered(ask);
  else
    ask_go_on(ask, &error);
}

int ask_start(const struct asker *asker, const struct ask_request *request, ask_done *done, void *context,
              struct ask **ret_ask, struct error *error) {
  if (request->address_count == 0)
    return error_set(error, ERROR_NOT_FOUND, "there is no server that could be asked about %s", request->name);
  struct ask *ask = calloc(1, sizeof *ask);
  if (!ask) return error_set(error, ERROR_NO_MEMORY, "out of memory for a question");
  ask->asker = asker;
  ask->request = *request;
  if (ask->request.address_count > ASK_ADDRESSES_MAX) ask->request.address_count = ASK_ADDRESSES_MAX;
  for (size_t i = 0; i < ask->request.address_count; i++) ask->places[i].address = request->addresses[i];
  text_copy(ask->name, sizeof ask->name, request->name);
  ask->request.addresses = NULL;
  ask->request.name = ask->name;
  ask->query = (struct message_query){.name = ask->name,
                                      .type = request->type,
                                      .recursion_desired = request->recursion_desired,
                                      .dnssec_ok = !request->recursion_desired};
  ask->done = done;
  ask->context = context;
  int result = ask_send(ask, error);
  if (result) {
    ask_free(ask);
    return result;
  }
  *ret_ask = ask;
  return 0;
}
