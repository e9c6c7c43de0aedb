/* Replies to a publisher: UPDATE, the looks before and after, TSIG, over the real transport or within the process. What is told as done was said by
 * someone who knows the key.
 *
 * The first octet: two bits for the change, 4 with a key, 8 over sockets, 16 zone and server are known, 32 two records; a script follows (dns_script.h). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/entropy.h"
#include "dkimroll/publisher.h"
#include "dkimroll/text.h"
#include "dns_net.h"

#define RECORD "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define REVOKED "v=DKIM1; k=ed25519; p="
#define SECRET "secret of 32 octets for the test"
#define SECRET_BASE64 "c2VjcmV0IG9mIDMyIG9jdGV0cyBmb3IgdGhlIHRlc3Q="

enum { DEADLINE_MS = 60000, WITH_KEY = 4, OVER_SOCKETS = 8, PLACE_KNOWN = 16, TWO_ITEMS = 32 };

struct publication {
  struct dns_script script;
  struct dns_net *net;
  unsigned ended;
  size_t count;
};

/* The publisher reads its key from a file; this one never touches a disk. */
static const char *key_path(void) {
  static char path[64];
  static const char text[] = "hmac-sha256:update.example.com:" SECRET_BASE64 "\n";
  if (path[0]) return path;
  const int descriptor = memfd_create("tsig", MFD_CLOEXEC);
  FUZZ_HOLDS(descriptor >= 0 && fchmod(descriptor, 0600) == 0, "no file");
  FUZZ_HOLDS(write(descriptor, text, sizeof text - 1) == sizeof text - 1, "no key");
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
  return path;
}

static void expect_result(const struct publication *publication, const struct publish_result *result) {
  const struct dns_script *script = &publication->script;
  if (result->error.code < 0) {
    fuzz_expect_error(result->error.code, &result->error);
    FUZZ_HOLDS(result->completed_at == 0, "done in spite of %s", result->error.message);
  } else {
    FUZZ_HOLDS(result->completed_at >= DNS_NET_WALL, "done at no time");
    if (script->key) FUZZ_HOLDS(script->signed_by_key > 0, "done, but nobody who knows the key said so");
  }
  if (result->attested) FUZZ_HOLDS(script->key && script->signed_right > 0, "attested by nobody");
}

static void publication_done(void *context, const struct publish_result *results, size_t count) {
  struct publication *publication = context;
  struct loop *loop = dns_net_loop(publication->net);
  FUZZ_HOLDS(++publication->ended == 1, "done came %u times", publication->ended);
  FUZZ_HOLDS(count == publication->count, "%zu results", count);
  FUZZ_HOLDS(loop_boottime(loop) <= DNS_NET_BOOT + DEADLINE_MS, "done came after the deadline");
  for (size_t i = 0; i < count; i++) expect_result(publication, &results[i]);
  loop_stop(loop);
}

static struct publish_item item_of(uint8_t options, const char *name) {
  static const enum publish_change changes[] = {PUBLISH_ADD, PUBLISH_REPLACE, PUBLISH_DELETE, PUBLISH_ATTEST};
  const enum publish_change change = changes[options & 3];
  return (struct publish_item){.change = change,
                               .name = name,
                               .record = change == PUBLISH_ADD       ? RECORD
                                         : change == PUBLISH_REPLACE ? REVOKED
                                                                     : NULL,
                               .record_before = change == PUBLISH_REPLACE || change == PUBLISH_DELETE ? RECORD : NULL,
                               .ttl = 3600};
}

static void publication_run(struct publication *publication, const struct policy_publisher *policy, uint8_t options) {
  const struct publish_item items[] = {item_of(options, "s1._domainkey.example.com"),
                                       item_of(options, "s2._domainkey.example.com")};
  struct entropy_seeded random;
  struct publisher *publisher = NULL;
  struct publish_operation *operation = NULL;
  struct error error = {0};
  entropy_seed(&random, 7);
  publication->count = options & TWO_ITEMS ? 2 : 1;
  FUZZ_HOLDS(publisher_rfc2136_new(dns_net_loop(publication->net), dns_net_transport(publication->net), &random.entropy,
                                   policy, &publisher, &error) == 0,
             "%s", error.message);
  FUZZ_HOLDS(publisher_start(publisher, items, publication->count, DNS_NET_BOOT + DEADLINE_MS, publication_done,
                             publication, &operation, &error) == 0,
             "%s", error.message);
  FUZZ_HOLDS(loop_run(dns_net_loop(publication->net), &error) == 0, "%s", error.message);
  FUZZ_HOLDS(publication->ended == 1, "done did not come");
  publisher_destroy(publisher);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const struct tsig_key key = {
      .name = "update.example.com", .algorithm = TSIG_HMAC_SHA256, .secret = SECRET, .secret_size = 32};
  static char *resolvers[] = {"192.0.2.53"};
  struct fuzz_input input = {data, size};
  struct publication publication = {0};
  const uint8_t options = fuzz_take_u8(&input);
  const struct policy_publisher policy = {.name = "primary",
                                          .type = PUBLISHER_RFC2136,
                                          .server = options & PLACE_KNOWN ? "192.0.2.1" : NULL,
                                          .zone = options & PLACE_KNOWN ? "example.com" : NULL,
                                          .tsig_file = options & WITH_KEY ? (char *)key_path() : NULL,
                                          .resolvers = resolvers,
                                          .resolver_count = 1};
  publication.script.record = RECORD;
  publication.script.key = options & WITH_KEY ? &key : NULL;
  dns_script_read(&publication.script, input);
  dns_net_open(&publication.script, options & OVER_SOCKETS, &publication.net);
  publication_run(&publication, &policy, options);
  dns_net_close(publication.net);
  return 0;
}
