/* A publisher over the real loop and real sockets for tests against real servers, with two faults to inject: a wall clock that is off and replies that get
 * lost. Functions are static here, because other files of this folder are linked into every test. */
#ifndef DKIMROLL_TESTS_PUBLISH_RIG_H
#define DKIMROLL_TESTS_PUBLISH_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/message.h"
#include "dkimroll/publisher.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "servers.h"

#define RIG_SECRET "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define RIG_KEY "hmac-sha256:dkimroll:" RIG_SECRET

enum { RIG_DEADLINE_MS = 30000, RIG_ITEMS_MAX = PUBLISH_ITEMS_MAX };

/* A loop whose wall clock differs from the true one. */
struct rig_loop {
  struct loop loop;
  struct loop *inner;
  int64_t shift;
};

static inline void rig_loop_now(struct loop *loop, struct clock_reading *ret_reading) {
  struct rig_loop *rig = (struct rig_loop *)loop;
  loop_now(rig->inner, ret_reading);
  ret_reading->wall += rig->shift;
}
static inline int rig_loop_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context,
                              struct loop_source **ret_source) {
  return loop_at(((struct rig_loop *)loop)->inner, boottime, callback, context, ret_source);
}
static inline int rig_loop_defer(struct loop *loop, loop_callback *callback, void *context,
                                 struct loop_source **ret_source) {
  return loop_defer(((struct rig_loop *)loop)->inner, callback, context, ret_source);
}
static inline int rig_loop_watch(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback,
                                 void *context, struct loop_source **ret_source) {
  return loop_watch(((struct rig_loop *)loop)->inner, descriptor, events, callback, context, ret_source);
}
static inline void rig_loop_cancel(struct loop *loop, struct loop_source *source) {
  loop_cancel(((struct rig_loop *)loop)->inner, &source);
}
static inline int rig_loop_run(struct loop *loop, struct error *error) {
  return loop_run(((struct rig_loop *)loop)->inner, error);
}
static inline void rig_loop_stop(struct loop *loop) {
  loop_stop(((struct rig_loop *)loop)->inner);
}
static inline void rig_loop_destroy(struct loop *loop) {
  (void)loop;
}

/* A transport with faults of its own. */
struct rig_transport {
  struct transport transport;
  struct transport *inner;
  unsigned lose;    /* so many replies to updates get lost: the connection seems to break instead */
  bool forge;       /* before each true reply comes a forged one, with another rcode and without the signature */
  unsigned updates; /* sent */
};

struct transport_exchange {
  struct rig_transport *owner;
  struct transport_exchange *inner;
  transport_accept *accept;
  transport_done *done;
  void *context;
  bool lost;
};

static inline bool rig_accept(void *context, const uint8_t *octets, size_t size) {
  struct transport_exchange *exchange = context;
  bool update = size > 2 && ((octets[2] >> 3) & 0xf) == 5;
  if (update && exchange->owner->lose > 0) {
    exchange->owner->lose--;
    exchange->lost = true;
    return true;
  }
  if (exchange->owner->forge) {
    CLEANUP_FREE uint8_t *forged = malloc(size);
    assert_non_null(forged);
    memcpy(forged, octets, size);
    forged[3] = (uint8_t)((forged[3] & 0xf0) | (update ? DNS_NOERROR : DNS_NXDOMAIN));
    forged[size - 8] ^= 1; /* in the MAC */
    assert_false(exchange->accept(exchange->context, forged, size));
  }
  return exchange->accept(exchange->context, octets, size);
}

static inline void rig_done(void *context, const struct error *result) {
  CLEANUP_FREE struct transport_exchange *exchange = context;
  struct error lost;
  error_set(&lost, ERROR_UNREACHABLE, "connection lost (by the test)");
  exchange->done(exchange->context, exchange->lost ? &lost : result);
}

static inline int rig_exchange(struct transport *transport, const struct transport_request *request,
                               transport_accept *accept, transport_done *done, void *context,
                               struct transport_exchange **ret_exchange, struct error *error) {
  struct rig_transport *rig = (struct rig_transport *)transport;
  CLEANUP_FREE struct transport_exchange *exchange = calloc(1, sizeof *exchange);
  assert_non_null(exchange);
  *exchange = (struct transport_exchange){.owner = rig, .accept = accept, .done = done, .context = context};
  if (((request->octets[2] >> 3) & 0xf) == 5) rig->updates++;
  int code = transport_exchange(rig->inner, request, rig_accept, rig_done, exchange, &exchange->inner, error);
  if (code == 0) *ret_exchange = TAKE_PTR(exchange);
  return code;
}

static inline void rig_cancel(struct transport *transport, struct transport_exchange *exchange) {
  transport_cancel(((struct rig_transport *)transport)->inner, &exchange->inner);
  free(exchange);
}

static inline void rig_destroy(struct transport *transport) {
  (void)transport;
}

struct rig {
  struct rig_loop loop;
  struct rig_transport transport;
  struct workplace folder;
  struct policy_publisher policy;
  int64_t deadline_ms;
  struct publish_result *results; /* of the last operation */
  size_t count;
};

/* server: "address:port"; zone may be NULL; key: "algorithm:name:secret", NULL: unsigned. */
static inline void rig_open(struct rig *rig, const char *server, const char *zone, const char *key) {
  static const struct loop_ops loop_operations = {rig_loop_now,    rig_loop_at,  rig_loop_defer, rig_loop_watch,
                                                  rig_loop_cancel, rig_loop_run, rig_loop_stop,  rig_loop_destroy};
  static const struct transport_ops transport_operations = {rig_exchange, rig_cancel, rig_destroy};
  memset(rig, 0, sizeof *rig);
  workplace_make(&rig->folder, "/tmp");
  rig->policy.name = text_duplicate("primary");
  rig->policy.type = PUBLISHER_RFC2136;
  rig->policy.server = text_duplicate(server);
  rig->policy.zone = text_duplicate(zone);
  if (key) {
    rig->policy.tsig_file = workplace_path(&rig->folder, "key");
    workplace_write(rig->policy.tsig_file, key, 0600);
  }
  rig->deadline_ms = RIG_DEADLINE_MS;
  rig->loop.loop.ops = &loop_operations;
  rig->transport.transport.ops = &transport_operations;
}

static inline void rig_close(struct rig *rig) {
  free(rig->policy.name);
  free(rig->policy.server);
  free(rig->policy.zone);
  free(rig->policy.tsig_file);
  free(rig->results);
  workplace_remove(&rig->folder);
}

static inline void rig_finished(void *context, const struct publish_result *results, size_t count) {
  struct rig *rig = context;
  free(rig->results);
  rig->results = calloc(count ? count : 1, sizeof *results);
  assert_non_null(rig->results);
  memcpy(rig->results, results, count * sizeof *results);
  rig->count = count;
  loop_stop(rig->loop.inner);
}

/* Runs one operation to its end, with a publisher of its own. */
static inline void rig_publish(struct rig *rig, const struct publish_item *items, size_t count) {
  struct publisher *publisher = NULL;
  struct publish_operation *operation = NULL;
  struct error error = {0};
  assert_int_equal(loop_sd_event_new(&rig->loop.inner, &error), 0);
  assert_int_equal(transport_sockets_new(rig->loop.inner, &rig->transport.inner, &error), 0);
  int code = publisher_rfc2136_new(&rig->loop.loop, &rig->transport.transport, &entropy_system, &rig->policy,
                                   &publisher, &error);
  if (code < 0) fail_msg("%s", error.message);
  code = publisher_start(publisher, items, count, loop_boottime(rig->loop.inner) + rig->deadline_ms, rig_finished, rig,
                         &operation, &error);
  if (code < 0) fail_msg("%s", error.message);
  assert_int_equal(loop_run(rig->loop.inner, &error), 0);
  publisher_destroy(publisher);
  transport_destroy(rig->transport.inner);
  loop_destroy(rig->loop.inner);
  assert_int_equal(rig->count, count);
}

static inline void rig_assert_success(const struct rig *rig, size_t index, bool already) {
  const struct publish_result *result = &rig->results[index];
  if (result->error.code != 0) fail_msg("item %zu: %s", index, result->error.message);
  assert_int_equal(result->already, already);
  assert_true(result->completed_at > 0);
}

static inline void rig_assert_all(const struct rig *rig, bool already) {
  for (size_t i = 0; i < rig->count; i++) rig_assert_success(rig, i, already);
}

/* The item failed with that code, and message or remedy hold text. */
static inline void rig_assert_failure(const struct rig *rig, size_t index, int code, const char *text) {
  const struct publish_result *result = &rig->results[index];
  if (result->error.code != code || (!strstr(result->error.message, text) && !strstr(result->error.remedy, text)))
    fail_msg("item %zu: wanted %s with \"%s\", got %s: %s (%s)", index, error_code_name(code), text,
             error_code_name(result->error.code), result->error.message, result->error.remedy);
  assert_int_equal(result->completed_at, 0);
  assert_true(result->error.remedy[0]);
}

static inline struct message *rig_ask(const struct server *server, const char *name, uint16_t type) {
  const struct message_query query = {.name = name, .type = type, .id = 4711, .dnssec_ok = true};
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server->port)};
  assert_int_equal(inet_pton(AF_INET, server->address, &address.sin_addr), 1);
  CLEANUP_CLOSE int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct pollfd poller = {.fd = descriptor, .events = POLLIN};
  uint8_t octets[4096];
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(message_build_query(&query, octets, sizeof octets, &size, &error), 0);
  assert_int_equal(connect(descriptor, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(send(descriptor, octets, size, 0), size);
  assert_int_equal(poll(&poller, 1, 5000), 1);
  ssize_t received = recv(descriptor, octets, sizeof octets, 0);
  struct message *message = NULL;
  assert_true(received > 0);
  assert_int_equal(message_parse(octets, (size_t)received, &message, &error), 0);
  return message;
}

/* What the server itself answers: number of TXT at the name; the first one's content, which the caller frees. */
static inline size_t rig_texts(const struct server *server, const char *name, char **ret_text) {
  struct message *message = rig_ask(server, name, DNS_TYPE_TXT);
  size_t count = 0;
  *ret_text = NULL;
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    size_t size;
    struct error error = {0};
    if (record->section != MESSAGE_ANSWER || record->type != DNS_TYPE_TXT || !text_equal(record->name, name)) continue;
    if (count++ == 0)
      assert_int_equal(record_from_rdata(record->rdata, record->rdata_size, ret_text, &size, &error), 0);
  }
  message_free(message);
  return count;
}

static inline void rig_assert_text(const struct server *server, const char *name, const char *text) {
  CLEANUP_FREE char *found = NULL;
  size_t count = rig_texts(server, name, &found);
  if (text) assert_string_equal(found ? found : "nothing", text);
  assert_int_equal(count, text ? 1 : 0);
}

/* Many records: names "s<index>._domainkey.example.com", contents of the size that RSA-2048 has. */
struct rig_many {
  struct publish_item items[RIG_ITEMS_MAX];
  char names[RIG_ITEMS_MAX][64];
  char records[RIG_ITEMS_MAX][420];
  char replacements[RIG_ITEMS_MAX][32];
};

static inline struct rig_many *rig_many_new(size_t count, const char *zone) {
  struct rig_many *many = calloc(1, sizeof *many);
  assert_non_null(many);
  for (size_t i = 0; i < count; i++) {
    snprintf(many->names[i], sizeof many->names[i], "s%zu._domainkey.%s", i, zone);
    snprintf(many->records[i], sizeof many->records[i], "v=DKIM1; k=rsa; p=%0392zu", i);
    snprintf(many->replacements[i], sizeof many->replacements[i], "v=DKIM1; k=rsa; p=");
    many->items[i] =
        (struct publish_item){.change = PUBLISH_ADD, .name = many->names[i], .record = many->records[i], .ttl = 60};
  }
  return many;
}

static inline void rig_many_replace(struct rig_many *many, size_t count) {
  for (size_t i = 0; i < count; i++)
    many->items[i] = (struct publish_item){.change = PUBLISH_REPLACE,
                                           .name = many->names[i],
                                           .record = many->replacements[i],
                                           .record_before = many->records[i],
                                           .ttl = 60};
}

static inline void rig_many_delete(struct rig_many *many, size_t count) {
  for (size_t i = 0; i < count; i++)
    many->items[i] = (struct publish_item){
        .change = PUBLISH_DELETE, .name = many->names[i], .record_before = many->replacements[i], .ttl = 60};
}

#endif
