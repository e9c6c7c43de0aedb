#include "dkimroll/zone_question.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/zone_read.h"

void zone_questions_init(struct zone_questions *questions, const struct asker *asker) {
  questions->asker = *asker;
  for (size_t i = 0; i < ZONE_BUCKETS; i++) LIST_INIT(&questions->buckets[i]);
  TAILQ_INIT(&questions->queued);
  TAILQ_INIT(&questions->asked);
  TAILQ_INIT(&questions->kept);
  TAILQ_INIT(&questions->over);
}

/* FNV-1a. */
static uint32_t hash_octets(uint32_t hash, const void *octets, size_t size) {
  const uint8_t *next = octets;
  for (size_t i = 0; i < size; i++) hash = (hash ^ next[i]) * UINT32_C(16777619);
  return hash;
}

static uint32_t hash_text(uint32_t hash, const char *text) {
  return hash_octets(hash, text, strlen(text) + 1);
}

static const uint32_t HASH_START = UINT32_C(2166136261);

static struct zone_bucket *bucket_of(struct zone_questions *questions, const struct zone_inquiry *inquiry) {
  uint32_t hash = hash_text(HASH_START, inquiry->zone);
  hash = hash_text(hash, inquiry->name);
  hash = hash_octets(hash, &inquiry->type, sizeof inquiry->type);
  return &questions->buckets[hash % ZONE_BUCKETS];
}

/* --- servers that do not answer --- */

static struct zone_trouble *trouble_place(struct zone_questions *questions, const struct address *address) {
  char text[ADDRESS_TEXT_SIZE];
  return &questions->troubles[hash_text(HASH_START, address_format(address, text)) % ZONE_TROUBLES];
}

static unsigned trouble_attempts(struct zone_questions *questions, const struct address *address) {
  const struct zone_trouble *trouble = trouble_place(questions, address);
  const bool fresh = trouble->attempts > 0 && trouble->until > loop_boottime(questions->asker.loop);
  return fresh && address_equal(&trouble->address, address) ? trouble->attempts : 0;
}

/* Longer than an attempt takes, so that those count together that are made one after the other. */
static int64_t resolver_pause(unsigned pauses) {
  int64_t pause = 2 * (int64_t)ZONE_TROUBLE_MS;
  for (unsigned i = 1; i < pauses && pause < ZONE_TROUBLE_LONGEST_MS; i++) pause *= 2;
  return pause < ZONE_TROUBLE_LONGEST_MS ? pause : ZONE_TROUBLE_LONGEST_MS;
}

static void question_tried(void *context, const struct address *address, const struct error *result) {
  struct zone_question *question = context;
  struct zone_questions *questions = question->questions;
  struct zone_trouble *trouble = trouble_place(questions, address);
  const unsigned attempts = trouble_attempts(questions, address);
  const bool known = trouble->attempts > 0 && address_equal(&trouble->address, address);
  if (result->code == 0) {
    if (known) *trouble = (struct zone_trouble){0};
    return;
  }
  const bool resolver = question->role == ZONE_ROLE_RESOLVER;
  unsigned pauses = known ? trouble->pauses : 0;
  if (resolver && attempts + 1 == ZONE_TROUBLE_ATTEMPTS) pauses++;
  *trouble = (struct zone_trouble){.address = *address,
                                   .until = loop_boottime(questions->asker.loop) + (resolver ? resolver_pause(pauses) : ZONE_TROUBLE_MS),
                                   .attempts = attempts + 1,
                                   .pauses = pauses,
                                   .code = result->code};
}

/* At most ASK_ADDRESSES_MAX of them, those first that answer, IPv4 before IPv6, which more hosts lack a route for. What
 * was silent for too long is left out. */
static void choose_addresses(struct zone_question *question, const struct zone_inquiry *inquiry) {
  for (unsigned silent = 0; silent < 2; silent++) {
    for (int family = 0; family < 2; family++) {
      for (size_t i = 0; i < inquiry->address_count && question->address_count < ASK_ADDRESSES_MAX; i++) {
        const struct address *address = &inquiry->addresses[i];
        const unsigned attempts = trouble_attempts(question->questions, address);
        if ((address->storage.ss_family == AF_INET6) != (family == 1)) continue;
        if ((attempts > 0) != (silent == 1) || attempts >= ZONE_TROUBLE_ATTEMPTS) continue;
        question->addresses[question->address_count++] = *address;
      }
    }
  }
}

static int no_address(struct zone_questions *questions, const struct zone_inquiry *inquiry, struct error *error) {
  char text[ADDRESS_TEXT_SIZE];
  if (inquiry->address_count == 0)
    return error_set(error, ERROR_NOT_FOUND, "there is no server that could be asked about %s", inquiry->name);
  const struct zone_trouble *trouble = trouble_place(questions, &inquiry->addresses[0]);
  error_set(error, trouble->code ? trouble->code : ERROR_TIMEOUT, "%s did not answer a moment ago",
            address_format(&inquiry->addresses[0], text));
  return error->code;
}

/* --- questions --- */

static struct zone_question_list *list_of(struct zone_question *question) {
  struct zone_questions *questions = question->questions;
  switch (question->state) {
  case ZONE_QUESTION_QUEUED: return &questions->queued;
  case ZONE_QUESTION_ASKED: return &questions->asked;
  case ZONE_QUESTION_KEPT: return &questions->kept;
  case ZONE_QUESTION_OVER: break;
  }
  return &questions->over;
}

static void question_move(struct zone_question *question, int state) {
  struct zone_questions *questions = question->questions;
  TAILQ_REMOVE(list_of(question), question, next);
  questions->asked_count -= question->state == ZONE_QUESTION_ASKED;
  questions->kept_count -= question->state == ZONE_QUESTION_KEPT;
  question->state = (__typeof__(question->state))state;
  TAILQ_INSERT_TAIL(list_of(question), question, next);
  questions->asked_count += question->state == ZONE_QUESTION_ASKED;
  questions->kept_count += question->state == ZONE_QUESTION_KEPT;
}

static void question_unlink(struct zone_question *question) {
  if (question->linked) LIST_REMOVE(question, bucket);
  question->linked = false;
}

static void question_free(struct zone_question *question) {
  struct zone_questions *questions = question->questions;
  question_unlink(question);
  TAILQ_REMOVE(list_of(question), question, next);
  questions->asked_count -= question->state == ZONE_QUESTION_ASKED;
  questions->kept_count -= question->state == ZONE_QUESTION_KEPT;
  ask_cancel(&question->ask);
  loop_cancel(questions->asker.loop, &question->telling);
  zone_source_release(question->source);
  free(question->addresses);
  free(question->octets);
  free(question->failure);
  free(question);
}

static void questions_free_list(struct zone_question_list *list) {
  struct zone_question *question;
  while ((question = TAILQ_FIRST(list))) question_free(question);
}

void zone_questions_release(struct zone_questions *questions) {
  questions_free_list(&questions->queued);
  questions_free_list(&questions->asked);
  questions_free_list(&questions->kept);
  questions_free_list(&questions->over);
}

/* Kept answers are in the order of their age. Those that somebody still waits for are about to be told. */
static void questions_expire(struct zone_questions *questions) {
  const int64_t now = loop_boottime(questions->asker.loop);
  struct zone_question *oldest;
  while ((oldest = TAILQ_FIRST(&questions->kept)) && TAILQ_EMPTY(&oldest->waits) &&
         (oldest->until <= now || questions->kept_count > ZONE_CACHE_MAX))
    question_free(oldest);
}

/* Who is told may ask, also the same again, and cancel, but frees no finder. */
static void question_tell(struct zone_question *question, const struct message *message, const struct error *error) {
  struct zone_wait *wait;
  question->busy = true;
  while ((wait = TAILQ_FIRST(&question->waits))) {
    TAILQ_REMOVE(&question->waits, wait, next);
    wait->question = NULL;
    wait->told(wait->context, message, error);
  }
  question->busy = false;
  if (question->state != ZONE_QUESTION_KEPT) question_free(question);
}

static void question_tell_later(void *context) {
  static const struct error success;
  struct zone_question *question = context;
  struct message *message = NULL;
  struct error error = question->failure ? *question->failure : success;
  question->telling = NULL;
  if (!question->failure) (void)!message_parse(question->octets, question->size, &message, &error);
  question_tell(question, message, &error);
  message_free(message);
}

static int question_defer(struct zone_question *question, struct error *error) {
  if (question->telling) return 0;
  int result = loop_defer(question->questions->asker.loop, question_tell_later, question, &question->telling);
  return result ? error_set(error, result, "the event loop takes no call") : 0;
}

static bool has_alias(const struct message *message, const char *name) {
  char target[DNS_NAME_TEXT_SIZE];
  int64_t ttl = 0;
  return message->authoritative && zone_read_alias(message, name, target, &ttl);
}

/* Resolvers: NOERROR or NXDOMAIN. Authoritative servers: the same with AA, or a referral to the zone that holds the
 * name, or an alias, whatever came of following it: named says SERVFAIL at the end of a long chain, and YXDOMAIN where
 * a DNAME makes the name too long. */
static bool question_usable(void *context, const struct message *message, struct error *error) {
  const struct zone_question *question = context;
  const bool resolver = question->role == ZONE_ROLE_RESOLVER;
  if (!resolver && has_alias(message, question->name)) return true;
  if (message->rcode != DNS_NOERROR && message->rcode != DNS_NXDOMAIN)
    error_set(error, ERROR_REFUSED, "%s for %s", message_rcode_name(message->rcode), question->name);
  else if (!resolver && !message->authoritative && !zone_read_referral(message, question->zone, question->name))
    error_set(error, ERROR_REFUSED, "not authoritative for %s", question->name);
  else
    return true;
  error_retryable(error, true);
  return false;
}

static void questions_send(struct zone_questions *questions);

static void question_answered(void *context, const struct ask_answer *answer, const struct error *error) {
  struct zone_question *question = context;
  struct zone_questions *questions = question->questions;
  question->ask = NULL;
  uint8_t *octets = answer && question->keep ? malloc(answer->size) : NULL;
  if (octets) {
    memcpy(octets, answer->octets, answer->size);
    question->octets = octets;
    question->size = answer->size;
    question->until = loop_boottime(questions->asker.loop) + (int64_t)ZONE_CACHE_SECONDS * 1000;
    question_move(question, ZONE_QUESTION_KEPT);
  } else {
    question_unlink(question);
    question_move(question, ZONE_QUESTION_OVER);
  }
  question_tell(question, answer ? answer->message : NULL, error);
  questions_expire(questions);
  questions_send(questions);
}

static void question_send(struct zone_question *question) {
  struct zone_questions *questions = question->questions;
  struct error error = {0};
  const struct ask_request request = {
      .addresses = question->addresses,
      .address_count = question->address_count,
      .name = question->name,
      .type = question->type,
      .recursion_desired = question->role == ZONE_ROLE_RESOLVER,
      .attempts = 2,
      .attempt_ms = ZONE_QUERY_MS,
      .deadline = TIME_NEVER,
      .usable = question_usable,
      .tried = question_tried,
  };
  question_move(question, ZONE_QUESTION_ASKED);
  const int result = ask_start(&questions->asker, &request, question_answered, question, &question->ask, &error);
  free(TAKE_PTR(question->addresses));
  if (result == 0) return;
  question_unlink(question);
  question_move(question, ZONE_QUESTION_OVER);
  question->failure = malloc(sizeof error);
  if (question->failure) *question->failure = error;
  /* Without memory for this the searches that wait end at their deadline. */
  if (question->failure) (void)!question_defer(question, &error);
}

static void questions_send(struct zone_questions *questions) {
  struct zone_question *question;
  while (questions->asked_count < ZONE_QUESTIONS_MAX && (question = TAILQ_FIRST(&questions->queued)))
    question_send(question);
}

static struct zone_question *question_find(struct zone_questions *questions, const struct zone_source *source,
                                           const struct zone_inquiry *inquiry) {
  const int64_t now = loop_boottime(questions->asker.loop);
  struct zone_question *question;
  LIST_FOREACH(question, bucket_of(questions, inquiry), bucket) {
    if (question->source != source || question->role != inquiry->role || question->type != inquiry->type ||
        !text_equal(question->name, inquiry->name) || !text_equal(question->zone, inquiry->zone))
      continue;
    if (question->state != ZONE_QUESTION_KEPT || question->until > now) return question;
    question_unlink(question); /* it goes when its turn comes */
    return NULL;
  }
  return NULL;
}

static struct zone_question *question_new(struct zone_questions *questions, struct zone_source *source,
                                          const struct zone_inquiry *inquiry) {
  struct zone_question *question = calloc(1, sizeof *question);
  struct address *addresses = calloc(ASK_ADDRESSES_MAX, sizeof *addresses);
  if (!question || !addresses) {
    free(question);
    free(addresses);
    return NULL;
  }
  question->addresses = addresses;
  question->questions = questions;
  question->source = zone_source_reference(source);
  question->role = inquiry->role;
  text_copy(question->zone, sizeof question->zone, inquiry->zone);
  text_copy(question->name, sizeof question->name, inquiry->name);
  question->type = inquiry->type;
  question->keep = inquiry->keep;
  question->state = ZONE_QUESTION_QUEUED;
  TAILQ_INIT(&question->waits);
  choose_addresses(question, inquiry);
  TAILQ_INSERT_TAIL(&questions->queued, question, next);
  LIST_INSERT_HEAD(bucket_of(questions, inquiry), question, bucket);
  question->linked = true;
  return question;
}

int zone_question_ask(struct zone_questions *questions, struct zone_source *source, const struct zone_inquiry *inquiry,
                      struct zone_wait *wait, struct error *error) {
  struct zone_question *question = question_find(questions, source, inquiry);
  if (!question) question = question_new(questions, source, inquiry);
  if (!question) return error_set(error, ERROR_NO_MEMORY, "out of memory for a question");
  if (question->address_count == 0) {
    question_free(question);
    return no_address(questions, inquiry, error);
  }
  if (question->state == ZONE_QUESTION_KEPT) {
    int result = question_defer(question, error);
    if (result) return result;
  }
  wait->question = question;
  TAILQ_INSERT_TAIL(&question->waits, wait, next);
  questions_send(questions);
  return 0;
}

void zone_wait_cancel(struct zone_questions *questions, struct zone_wait *wait) {
  struct zone_question *question = wait->question;
  if (!question) return;
  TAILQ_REMOVE(&question->waits, wait, next);
  wait->question = NULL;
  if (!TAILQ_EMPTY(&question->waits) || question->state == ZONE_QUESTION_KEPT || question->busy) return;
  question_free(question);
  questions_send(questions);
}
