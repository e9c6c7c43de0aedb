/* What is wrong in a policy is found, all of it in one go, at the right place, and with what would be right. */
#include "policy_expect.h"

static void test_policy_errors__the_base_of_these_tests_is_right(void **state) {
  (void)state;
  assert_right(POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS);
  assert_right(DOMAINS DEFAULTS SIGNERS PUBLISHERS POLICIES);
}

static void test_policy_errors__unknown_keys_name_the_nearest(void **state) {
  (void)state;
  ASSERT_FINDINGS({POLICIES PUBLISHERS SIGNERS DEFAULTS "domans: {}\n" DOMAINS, 5, 1, "did you mean \"domains\"?"},
                  {WITH_RULES("rotate-evry: 90d"), 1, 23,
                   "policies.standard: unknown key \"rotate-evry\"; did you mean \"rotate-every\"?"},
                  {WITH_RULES("publish: {tll: 1h}"), 1, 33, "did you mean \"ttl\"?"},
                  {WITH_RULES("keys: {main: {size: 2048}}"), 1, 37, "known: algorithm, bits, selector"},
                  {WITH_PUBLISHER("tsig: /a"), 2, 24, "known: type, server, tsig-file"},
                  {WITH_DOMAINS("example.com: {sender: [\"*\"]}"), 5, 25, "did you mean \"senders\"?"});
}

static void test_policy_errors__wrong_types_say_what_is_expected(void **state) {
  (void)state;
  ASSERT_FINDINGS({WITH_RULES("rotate-every: often"), 1, 37,
                   "\"often\" is not a duration such as 90d, 1h30m or 3600 (seconds), or never"},
                  {WITH_RULES("rotate-every: [90d]"), 1, 37, "a list stands here; give a duration"},
                  {WITH_RULES("publish: 1h"), 1, 32, "give a mapping of keys, as in {ttl: ...}"},
                  {WITH_RULES("publish: {ttl: never}"), 1, 38, "\"never\" is not a duration"},
                  {WITH_RULES("standby: one"), 1, 32, "\"one\" is not a whole number"},
                  {WITH_RULES("standby: {}"), 1, 32, "a mapping stands here"},
                  {WITH_RULES("standby: -1"), 1, 32, "\"-1\" is not a whole number"},
                  {WITH_RULES("rotate-every: "), 1, 37, "no value is given"},
                  {WITH_RULES("rotate-every: ~"), 1, 37, "no value is given"},
                  {"policies: standard\n" PUBLISHERS SIGNERS "domains: {}\n", 1, 11, "give a mapping of names"},
                  {POLICIES PUBLISHERS SIGNERS DEFAULTS "domains: [example.com]\n", 5, 10, "give a mapping of domains"},
                  {POLICIES PUBLISHERS SIGNERS DEFAULTS "domains: example.com\n", 5, 10, "give a mapping of domains"},
                  {WITH_DOMAINS("example.com: standard"), 5, 24, "give a mapping of keys, as in {policy: ...}"},
                  {WITH_DOMAINS("example.com: {senders: {a: b}}"), 5, 34, "give a list of texts"},
                  {WITH_DOMAINS("example.com: {senders: [[a]]}"), 5, 35, "must be a text"},
                  {WITH_DOMAINS("example.com: {senders: []}"), 5, 34, "has 0 items; give 1 to 64"},
                  {WITH_SIGNER(SIGNER_KEYS ", multiple-signatures: maybe"), 3, 154, "is not true or false"},
                  {WITH_SIGNER(SIGNER_KEYS ", mode: rw"), 3, 139, "a file mode in octal such as 0600"},
                  {WITH_SIGNER(SIGNER_KEYS ", mode: 0888"), 3, 139, "a file mode in octal"});
}

static void test_policy_errors__bounds_are_named(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {WITH_RULES("publish: {ttl: 0}"), 1, 38,
       "policies.standard.publish.ttl: 0 is out of bounds; give a value from 1s to 7d"},
      {WITH_RULES("publish: {ttl: 8d}"), 1, 38, "from 1s to 7d"},
      {WITH_RULES("confirm: {sightings: 0}"), 1, 44, "from 1 to 100"},
      {WITH_RULES("confirm: {every: 2d}"), 1, 40, "from 1s to 1d"}, {WITH_RULES("standby: 5"), 1, 32, "from 0 to 4"},
      {WITH_RULES("rotate-every: 11000d"), 1, 37, "out of bounds"},
      {WITH_RULES("retire: {tombstone: 4000d}"), 1, 43, "from 0s to 3650d"},
      {WITH_SIGNER(SIGNER_KEYS ", reload: {unit: a.service, timeout: 11m}"), 3, 168, "from 1s to 10m"},
      {"policies: {x: {keys: {a: {}, b: {}, c: {}, d: {}, e: {}, f: {}, g: {}, h: {}, i: {}}}}\n" PUBLISHERS SIGNERS
       "domains: {}\n",
       1, 79, "more than 8 entries"},
      {WITH_RULES("keys: {}"), 1, 29, "give at least one entry"},
      {"policies: {}\n" PUBLISHERS SIGNERS "domains: {}\n", 1, 11, "give at least one entry"});
}

static void test_policy_errors__missing_keys(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {PUBLISHERS SIGNERS "domains: {}\n", 1, 1, "policies is missing"},
      {POLICIES SIGNERS "domains: {}\n", 1, 1, "publishers is missing"},
      {POLICIES PUBLISHERS SIGNERS, 1, 1, "domains is missing; add it, or domains-from"},
      {WITH_SIGNER("signing-table: /t, key-directory: /k/%d, milter: \"unix:/s\""), 3, 11,
       "signers.local: key-table is missing"},
      {WITH_SIGNER("key-table: /t, key-directory: /k/%d, milter: \"unix:/s\""), 3, 11, "signing-table is missing"},
      {WITH_SIGNER("key-table: /t, signing-table: /s, milter: \"unix:/s\""), 3, 11, "key-directory is missing"},
      {WITH_SIGNER("key-table: /t, signing-table: /s, key-directory: /k/%d"), 3, 11, "milter is missing"},
      {POLICIES PUBLISHERS SIGNERS "domains: {example.com: {publisher: primary, signers: [local]}}\n", 4, 11,
       "example.com has no policy; give it one, or give all domains one under domain-defaults"},
      {POLICIES PUBLISHERS SIGNERS "domains: {example.com: {policy: standard, signers: [local]}}\n", 4, 11,
       "no publisher"},
      {POLICIES PUBLISHERS SIGNERS "domains: {example.com: {policy: standard, publisher: primary}}\n", 4, 11,
       "no signers"});
}

static void test_policy_errors__duplicates_name_the_first(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {POLICIES POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS, 2, 1, "policies is given twice, first in line 1"},
      {POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS DOMAINS, 6, 1, "domains is given twice, first in line 5"},
      {WITH_RULES("standby: 1, standby: 2"), 1, 35, "policies.standard.standby is given twice, first in line 1"},
      {"policies:\n  standard: {}\n  standard: {}\n" PUBLISHERS SIGNERS DEFAULTS DOMAINS, 3, 3,
       "policies.standard is given twice, first in line 2"},
      {WITH_DOMAINS("example.com: {}, example.com: {}"), 5, 28, "example.com is there twice, first at p.yaml:5:11"},
      {WITH_DOMAINS("example.com: {}, EXAMPLE.com.: {}"), 5, 28, "example.com is there twice, first at p.yaml:5:11"},
      {WITH_DOMAINS("example.com: {signers: [local, local]}"), 5, 42, "names this twice"});
}

static void test_policy_errors__unknown_references(void **state) {
  (void)state;
  ASSERT_FINDINGS({WITH_DOMAINS("example.com: {policy: standrad}"), 5, 33,
                   "example.com: there is no policy \"standrad\" under policies; did you mean \"standard\"?"},
                  {WITH_DOMAINS("example.com: {publisher: other}"), 5, 36,
                   "there is no publisher \"other\" under publishers; known: primary"},
                  {WITH_DOMAINS("example.com: {signers: [local, lokal]}"), 5, 42,
                   "there is no signer \"lokal\" under signers; did you mean \"local\"?"},
                  {POLICIES PUBLISHERS SIGNERS
                   "domain-defaults: {policy: x, publisher: primary, signers: local}\n" DOMAINS,
                   4, 27, "domain-defaults: there is no policy \"x\""},
                  {"domains: {example.com: {policy: other}}\n" POLICIES PUBLISHERS SIGNERS DEFAULTS, 1, 33,
                   "there is no policy \"other\""});
}

static void test_policy_errors__unknown_enum_values(void **state) {
  (void)state;
  ASSERT_FINDINGS({WITH_RULES("keys: {main: {algorithm: ed25518}}"), 1, 48,
                   "\"ed25518\" is not one of rsa, ed25519; did you mean \"ed25519\"?"},
                  {WITH_RULES("keys: {main: {algorithm: dsa}}"), 1, 48, "did you mean \"rsa\"?"},
                  {WITH_RULES("retire: {private-key: keep}"), 1, 45, "one of destroy, archive"},
                  {WITH_PUBLISHER("type: cloud"), 2, 30, "one of rfc2136"},
                  {WITH_SIGNER("type: rspamd, " SIGNER_KEYS), 3, 25, "one of opendkim"});
}

static void test_policy_errors__weak_and_odd_keys(void **state) {
  (void)state;
  ASSERT_FINDINGS({WITH_RULES("keys: {main: {bits: 1024}}"), 1, 43,
                   "RSA keys of 1024 bits are too weak (RFC 8301 3.2); use 2048, 3072 or 4096"},
                  {WITH_RULES("keys: {main: {bits: 2049}}"), 1, 43, "use 2048, 3072 or 4096"},
                  {WITH_RULES("keys: {main: {algorithm: ed25519, bits: 2048}}"), 1, 63, "remove bits"},
                  {WITH_RULES("selector: Server-%Y"), 1, 33,
                   "policies.standard.selector: selector template \"Server-%Y\" holds 'S'; use lower case"},
                  {WITH_RULES("keys: {main: {selector: \"a-%q\"}}"), 1, 47, "begins no known field"});
}

/* A mistake beside it must not hide another one until the next attempt. */
static void test_policy_errors__one_mistake_hides_no_other(void **state) {
  (void)state;
  assert_all_findings(
      "policies:\n"
      "  standard: {selector: Wrong, rotate-every: 10s, standby: 7, keys: {main: {bits: 1024}, other: {bit: 1}}}\n"
      "  short: {selector: Wrong, rotate-every: 10s, keys: {a: {selector: x}, b: {selector: x}}}\n"
      "  archive: {retire: {tombstone: soon, private-key: archive}}\n"
      "publishers: {primary: {server: \"192.0.2.53\"}}\n"
      "signers: {local: {key-table: /k/T, signing-table: /k/T, key-directory: k, mode: 0644, milter: \"unix:/s\",\n"
      "    reload: {timeout: 0s, unit: a.service, pid-file: /p}}}\n" DEFAULTS DOMAINS,
      (const struct expectation[]){
          {.line = 2, .column = 24, .message = "holds 'W'"},
          {.line = 2, .column = 59, .message = "standby: 7 is out of bounds"},
          {.line = 2, .column = 82, .message = "RSA keys of 1024 bits are too weak"},
          {.line = 2, .column = 97, .message = "unknown key \"bit\"; did you mean \"bits\"?"},
          {.line = 3, .column = 21, .message = "holds 'W'"},
          {.line = 3, .column = 42, .message = "a life of 10s is too short"},
          {.line = 4, .column = 33, .message = "\"soon\" is not a duration"},
          {.line = 4, .column = 52, .message = "archive-directory is missing"},
          {.line = 6, .column = 51, .message = "key-table and signing-table are the same file"},
          {.line = 6, .column = 72, .message = "\"k\" is no absolute path"},
          {.line = 6, .column = 81, .message = "OpenDKIM refuses private keys with mode 0644"},
          {.line = 7, .column = 13, .message = "give exactly one of unit, pid-file and command"},
          {.line = 7, .column = 23, .message = "0s is out of bounds"},
          {.line = 9, .column = 11, .message = "policy \"standard\" has 2 keys"},
          {.message = NULL},
      });
}

static void test_policy_errors__slots_with_one_template(void **state) {
  (void)state;
  ASSERT_FINDINGS({"policies: {standard: {keys: {a: {}, b: {}}}}\n" PUBLISHERS SIGNERS "domains: {}\n", 1, 37,
                   "policies.standard.keys.b has the same selector template as key \"a\""},
                  {"policies: {standard: {keys: {a: {selector: x}, b: {selector: x}}}}\n" PUBLISHERS SIGNERS
                   "domains: {}\n",
                   1, 62, "give each key one of its own"});
}

static void test_policy_errors__life_too_short(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {WITH_RULES("rotate-every: 2h40s"), 1, 37, "a life of 2h40s is too short: it must be longer than 2h40s"},
      {WITH_RULES("rotate-every: 1h"), 1, 37, "must be longer than 2h40s"},
      {WITH_RULES("rotate-every: 7d, publish: {safety: 4d}"), 1, 37, "must be longer than 8d"},
      {WITH_RULES("rotate-every: 4s, publish: {safety: 0s}, confirm: {sightings: 2, every: 1s}"), 1, 37,
       "longer than 4s"});
  assert_right(WITH_RULES("rotate-every: never"));
#define SHORT_RETIRE                                                                                                   \
  "retire: {queue-lifetime: 10s, queue-backoff: 0s, drain: 1s, verify-window: 5s, safety: 0s, tombstone: 10s}"
  assert_right(WITH_RULES("rotate-every: 40s, publish: {safety: 0s, ttl: 5s}, confirm: {every: 1s}, " SHORT_RETIRE));
  assert_right(
      WITH_RULES("rotate-every: 5s, publish: {safety: 0s}, confirm: {sightings: 2, every: 1s}, " SHORT_RETIRE));
}

static void test_policy_errors__life_that_piles_up_retired_keys(void **state) {
  (void)state;
  /* 5d + 4300s + 1h + 2d + 1h + 30d = 37d 3h 11m 40s; 22 of them may be on their way out. */
  ASSERT_FINDINGS({WITH_RULES("rotate-every: 1d"), 1, 37, "there would be 40 keys of one slot at once, more than 24"});
  ASSERT_FINDINGS({WITH_RULES("rotate-every: 145831"), 1, 37, "there would be 25 keys of one slot at once"});
  assert_right(WITH_RULES("rotate-every: 145832"));
  assert_right(WITH_RULES("rotate-every: 1d, retire: {tombstone: 0}"));
}

static void test_policy_errors__archive_needs_its_directory(void **state) {
  (void)state;
  ASSERT_FINDINGS({WITH_RULES("retire: {private-key: archive}"), 1, 45, "archive-directory is missing"},
                  {WITH_RULES("retire: {archive-directory: /a/%d}"), 1, 51, "add private-key: archive, or remove it"},
                  {WITH_RULES("retire: {private-key: archive, archive-directory: a}"), 1, 73, "no absolute path"},
                  {WITH_RULES("retire: {private-key: archive, archive-directory: /k/keys/%d}"), 5, 11,
                   "is the key-directory of signer"});
}

static void test_policy_errors__addresses(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {WITH_PUBLISHER("server: ns1.example.com"), 2, 32,
       "\"ns1.example.com\" is no address of a server; write 192.0.2.53"},
      {WITH_PUBLISHER("server: \"192.0.2.53:0\""), 2, 32, "is no address"},
      {WITH_PUBLISHER("server: \"192.0.2.53:65536\""), 2, 32, "is no address"},
      {WITH_PUBLISHER("server: \"192.0.2.53:\""), 2, 32, "is no address"},
      {WITH_PUBLISHER("server: \"[192.0.2.53]:53\""), 2, 32, "is no address"},
      {WITH_PUBLISHER("server: \"[2001:db8::1]53\""), 2, 32, "is no address"},
      {WITH_PUBLISHER("server: \"[2001:db8::1\""), 2, 32, "is no address"},
      {WITH_PUBLISHER("server: 192.0.2"), 2, 32, "is no address"},
      {WITH_PUBLISHER("servers: [192.0.2.1, bad]"), 2, 45, "publishers.primary.servers: \"bad\" is no address"},
      {WITH_PUBLISHER("resolvers: [\"192.0.2.1:x\"]"), 2, 36, "is no address"},
      {WITH_PUBLISHER("ignore-servers: [\"192.0.2.1:53\"]"), 2, 41, "its address without port"},
      {WITH_PUBLISHER("zone: \"a..b\""), 2, 30, "empty label"},
      {WITH_PUBLISHER("tsig-file: key"), 2, 35, "neither a path nor a credential"},
      {WITH_PUBLISHER("tsig-file: \"credential:a/b\""), 2, 35, "credential:NAME"});
  assert_right(WITH_PUBLISHER(
      "server: \"[2001:db8::53]:5300\", servers: [\"2001:db8::53\", \"[2001:db8::54]\", \"192.0.2.1:53\"], "
      "ignore-servers: [ns2.example.net., \"2001:db8::55\"], zone: _domainkey.example.com, tsig-file: "
      "\"credential:a\""));
}

static void test_policy_errors__milter_sockets(void **state) {
  (void)state;
#define SIGNER_MILTER(milter)                                                                                          \
  WITH_SIGNER("key-table: /t, signing-table: /s, key-directory: /k/%d, milter: \"" milter "\"")
  ASSERT_FINDINGS({SIGNER_MILTER("inet:8891"), 3, 83, "does not say at which address; write inet:PORT@ADDRESS"},
                  {SIGNER_MILTER("inet:0@127.0.0.1"), 3, 83, "has no port from 1 to 65535"},
                  {SIGNER_MILTER("inet:8891@mail.example.com"), 3, 83, "names other than localhost are not looked up"},
                  {SIGNER_MILTER("inet:8891@::1"), 3, 83, "no address of that family"},
                  {SIGNER_MILTER("inet6:8891@127.0.0.1"), 3, 83, "inet6:8891@::1"},
                  {SIGNER_MILTER("unix:run/sock"), 3, 83, "no absolute path"},
                  {SIGNER_MILTER("/run/sock"), 3, 83, "is no socket of a milter"},
                  {SIGNER_MILTER("unix:/"
                                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                 "aaaaaaaaaaaaaaaaaaaaaa"),
                   3, 83, "longer than a socket's path may be"});
  assert_right(SIGNER_MILTER("inet:8891@localhost"));
  assert_right(SIGNER_MILTER("inet6:8891@[::1]"));
  assert_right(SIGNER_MILTER("local:/run/opendkim/opendkim.sock"));
}

static void test_policy_errors__signer_values(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {WITH_SIGNER("key-table: KeyTable, signing-table: /s, key-directory: /k/%d, milter: \"unix:/m\""), 3, 30,
       "begin it with /"},
      {WITH_SIGNER("key-table: /a/../t, signing-table: /s, key-directory: /k/%d, milter: \"unix:/m\""), 3, 30,
       "write the path straight"},
      {WITH_SIGNER("key-table: /t, signing-table: \"dsn:sqlite3\", key-directory: /k/%d, milter: \"unix:/m\""), 3, 49,
       "refile:/path or file:/path"},
      {WITH_SIGNER("key-table: /t, signing-table: \"file:/t\", key-directory: /k/%d, milter: \"unix:/m\""), 3, 49,
       "are the same file"},
      {WITH_SIGNER("key-table: /t, signing-table: /s, key-directory: /k/%s, milter: \"unix:/m\""), 3, 68,
       "only %d is known here"},
      {WITH_SIGNER("key-table: /t, signing-table: /s, key-directory: /%d, milter: \"unix:/m\""), 3, 68,
       "put it below a fixed directory"},
      {WITH_SIGNER(SIGNER_KEYS ", key-name: \"%s\""), 3, 143, "is the same for every domain; put %d into it"},
      {WITH_SIGNER(SIGNER_KEYS ", key-name: \"%d %s\""), 3, 143, "a name in KeyTable"},
      {WITH_SIGNER(SIGNER_KEYS ", key-name: \"%d%x\""), 3, 143, "%s is the selector and %d the domain"},
      {WITH_SIGNER(SIGNER_KEYS ", owner: \"a:b:c\""), 3, 140, "write user:group"},
      {WITH_SIGNER(SIGNER_KEYS ", mode: 0644"), 3, 139, "OpenDKIM refuses private keys with mode 0644"},
      {WITH_SIGNER(SIGNER_KEYS ", mode: 0060"), 3, 139, "OpenDKIM refuses"},
      {WITH_SIGNER(SIGNER_KEYS ", reload: {}"), 3, 141, "exactly one of unit, pid-file and command (0 are given)"},
      {WITH_SIGNER(SIGNER_KEYS ", reload: {unit: a.service, pid-file: /p}"), 3, 141, "(2 are given)"},
      {WITH_SIGNER(SIGNER_KEYS ", reload: {unit: opendkim}"), 3, 148, "as in opendkim.service"},
      {WITH_SIGNER(SIGNER_KEYS ", reload: {command: /bin/true}"), 3, 151, "give a list of texts"},
      {WITH_SIGNER(SIGNER_KEYS ", reload: {command: [systemctl, reload]}"), 3, 151, "no shell and no PATH"},
      {WITH_SIGNER(SIGNER_KEYS ", restart: {}"), 3, 142, "exactly one of unit and command (0 are given)"},
      {WITH_SIGNER(SIGNER_KEYS ", restart: {unit: a.service, command: [/p]}"), 3, 142, "(2 are given)"},
      {WITH_SIGNER(SIGNER_KEYS ", restart: {unit: opendkim}"), 3, 149, "as in opendkim.service"},
      {WITH_SIGNER(SIGNER_KEYS ", restart: {pid-file: /p}"), 3, 143, "pid-file"},
      {WITH_SIGNER(SIGNER_KEYS ", restart: {command: [systemctl, restart]}"), 3, 152, "no shell and no PATH"});
  assert_right(WITH_SIGNER(SIGNER_KEYS ", reload: {command: [/bin/echo, a, a]}")); /* arguments may repeat */
}

static void test_policy_errors__signers_that_share(void **state) {
  (void)state;
#define TWO_SIGNERS(other)                                                                                             \
  POLICIES PUBLISHERS "signers:\n  local: {" SIGNER_KEYS "}\n  other: {" other "}\n" DEFAULTS DOMAINS
  ASSERT_FINDINGS(
      {TWO_SIGNERS("key-table: /k/KeyTable, signing-table: /s, key-directory: /o/%d, milter: \"unix:/m\""), 5, 22,
       "signers.other.key-table is that of signer \"local\" too"},
      {TWO_SIGNERS("key-table: /t, signing-table: /k/SigningTable, key-directory: /o/%d, milter: \"unix:/m\""), 5, 41,
       "signing-table is that of signer"},
      {TWO_SIGNERS("key-table: /t, signing-table: /s, key-directory: /o/%d, milter: \"inet:8891@127.0.0.1\""), 5, 75,
       "milter is that of signer"},
      {TWO_SIGNERS("key-table: /t, signing-table: /s, key-directory: /k/keys/%d, mode: 0640, milter: \"unix:/m\""), 5,
       60, "whose owner or mode differs"});
  assert_right(TWO_SIGNERS("key-table: /t, signing-table: /s, key-directory: /k/keys/%d, milter: \"unix:/m\""));
}

static void test_policy_errors__what_one_opendkim_cannot_do(void **state) {
  (void)state;
#define TWO_SLOTS "policies: {standard: {keys: {a: {selector: a}, b: {selector: b}}}}\n"
#define MIXED_SLOTS "policies: {standard: {keys: {a: {selector: a}, b: {selector: b, algorithm: ed25519}}}}\n"
#define MULTIPLE(more) "signers: {local: {" SIGNER_KEYS ", multiple-signatures: true" more "}}\n"
  ASSERT_FINDINGS(
      {TWO_SLOTS PUBLISHERS SIGNERS DEFAULTS DOMAINS, 5, 11,
       "set multiple-signatures: true here and MultipleSignatures yes"},
      {MIXED_SLOTS PUBLISHERS SIGNERS DEFAULTS DOMAINS, 5, 11, "one OpenDKIM cannot sign with rsa and ed25519"},
      {MIXED_SLOTS PUBLISHERS MULTIPLE("") DEFAULTS DOMAINS, 5, 11, "one OpenDKIM cannot sign with rsa and ed25519"},
      {TWO_SLOTS PUBLISHERS MULTIPLE(", key-name: \"%d\"") DEFAULTS DOMAINS, 5, 11, "put %s into it"},
      {TWO_SLOTS PUBLISHERS "signers: {local: {key-table: /t, signing-table: \"file:/s\", key-directory: /k/%d, "
                            "milter: \"unix:/m\", multiple-signatures: true}}\n" DEFAULTS DOMAINS,
       5, 11, "gives only the first entry of a sender"},
      {"policies: {standard: {}, modern: {keys: {main: {algorithm: ed25519}}}}\n" PUBLISHERS SIGNERS DEFAULTS
       "domains:\n  a.example: {}\n  b.example: {policy: modern}\n",
       7, 3, "b.example would sign with ed25519 and a.example with rsa at the same signer \"local\""});
  assert_right(TWO_SLOTS PUBLISHERS MULTIPLE("") DEFAULTS DOMAINS);
  assert_right("policies: {standard: {keys: {main: {algorithm: ed25519}}}}\n" PUBLISHERS SIGNERS DEFAULTS DOMAINS);
}

static void test_policy_errors__one_key_path_for_two_domains(void **state) {
  (void)state;
#define FIXED_SIGNER                                                                                                   \
  "signers: {local: {key-table: /t, signing-table: /s, key-directory: /k/keys, milter: \"unix:/m\"}}\n"
#define THREE_DOMAINS "domains:\n  c.example: {}\n  a.example: {}\n  b.example: {}\n"
  ASSERT_FINDINGS(
      {POLICIES PUBLISHERS FIXED_SIGNER DEFAULTS THREE_DOMAINS, 8, 3,
       "b.example and a.example would keep their private keys in one directory, /k/keys"},
      {"policies: {standard: {retire: {private-key: archive, archive-directory: /k/archive}}}\n" PUBLISHERS SIGNERS
           DEFAULTS "domains:\n  a.example: {}\n  b.example: {}\n",
       7, 3, "/k/archive"},
      {POLICIES PUBLISHERS
       "signers:\n  local: {" SIGNER_KEYS "}\n"
       "  other: {key-table: /t, signing-table: /s, key-directory: /k/keys/a.example, milter: \"unix:/m\"}\n" DEFAULTS
       "domains:\n  a.example: {}\n  b.example: {signers: [other]}\n",
       9, 3, "/k/keys/a.example"});
  assert_right(POLICIES PUBLISHERS FIXED_SIGNER DEFAULTS DOMAINS);
  /* One domain may have one file for two signers. */
  assert_right(POLICIES PUBLISHERS
               "signers:\n  local: {" SIGNER_KEYS "}\n"
               "  other: {key-table: /t, signing-table: /s, key-directory: /k/keys/%d, milter: \"unix:/m\"}\n"
               "  third: {key-table: /x, signing-table: /y, key-directory: /z/%d, milter: \"unix:/z\"}\n" DEFAULTS
               "domains:\n  a.example: {signers: [local, other]}\n  b.example: {signers: [third]}\n");
}

static void test_policy_errors__sender_patterns(void **state) {
  (void)state;
#define FILE_SIGNER                                                                                                    \
  "signers: {local: {key-table: /t, signing-table: \"file:/s\", key-directory: /k/%d, milter: \"unix:/m\"}}\n"
#define FILE_SENDERS(senders)                                                                                          \
  POLICIES PUBLISHERS FILE_SIGNER DEFAULTS "domains: {example.com: {senders: " senders "}}\n"
  ASSERT_FINDINGS(
      {WITH_DOMAINS("example.com: {senders: [\"a b@example.com\"]}"), 5, 35, "holds a blank"},
      {WITH_DOMAINS("example.com: {senders: [\"a@b@example.com\"]}"), 5, 35, "has two @"},
      {WITH_DOMAINS("example.com: {senders: [\"user@\"]}"), 5, 35, "nothing after the @"},
      {WITH_DOMAINS("example.com: {senders: [\"*@a.com\", \"@a.com\"]}"), 5, 46, "names this twice"},
      {FILE_SENDERS("[\"news-*@example.com\"]"), 5, 11, "does not know patterns such as \"news-*@example.com\""},
      {FILE_SENDERS("[\"*@*.example.com\"]"), 5, 11, "does not know patterns such as"},
      {FILE_SENDERS("[\"*.example.com\"]"), 5, 11, "does not know patterns such as"},
      {FILE_SENDERS("[\"*@*\"]"), 5, 11, "does not know patterns such as"},
      {WITH_DOMAINS("example.com: {senders: [example.com]}"), 5, 11, "no address matches \"example.com\"; write *@host"},
      {WITH_DOMAINS("example.com: {senders: [\"*@example.com\", .example.com]}"), 5, 11, "no address matches \".example.com\""},
      {WITH_DOMAINS("example.com: {senders: [a@.example.com]}"), 5, 11, "no address matches \"a@.example.com\""});
  assert_right(FILE_SENDERS("[\"a@example.com\", example.com, \"*@example.org\", \"@example.net\", a@.example.com, "
                            ".example.com, \"a@*\", \"*\"]"));
  assert_right(WITH_DOMAINS("example.com: {senders: [\"news-*@example.com\", \"*@*.example.com\", \"*\", \"*.example.net\"]}"));
}

static void test_policy_errors__domain_names(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {WITH_DOMAINS("com: {}"), 5, 11, "only one label"},
      {WITH_DOMAINS("\"b\xc3\xbc"
                    "cher.de\": {}"),
       5, 11, "xn--"},
      {WITH_DOMAINS("\"*.example.com\": {}"), 5, 11, "wildcard"}, {WITH_DOMAINS("a_b.com: {}"), 5, 11, "underscore"},
      {"policies: {\"my policy\": {}}\n" PUBLISHERS SIGNERS "domains: {}\n", 1, 12, "\"my policy\" is no name"});
}

static void test_policy_errors__wrong_reference_is_found_once(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {POLICIES PUBLISHERS SIGNERS "domains: {example.com: {policy: [a], publisher: primary, signers: local}}\n", 4, 33,
       "a list stands here"},
      {POLICIES PUBLISHERS SIGNERS "domains: {example.com: {policy: standard, publisher: primary, signers: {}}}\n", 4,
       72, "give a list of texts"},
      {POLICIES PUBLISHERS SIGNERS "domain-defaults: {policy: standard, publisher: [a], signers: local}\n" DOMAINS, 4,
       48, "a list stands here"},
      {POLICIES PUBLISHERS SIGNERS "domain-defaults: {policy: standard, publisher: primary, signers: []}\n" DOMAINS, 4,
       66, "has 0 items"});
}

static void test_policy_errors__all_come_in_one_go_and_in_order(void **state) {
  (void)state;
  static const char text[] = "policies:\n"
                             "  standard:\n"
                             "    selektor: a\n"
                             "    rotate-every: often\n"
                             "    keys: {main: {bits: 1024}}\n"
                             "  other: {standby: 9}\n"
                             "publishers:\n"
                             "  primary: {server: nowhere}\n"
                             "signers:\n"
                             "  local: {key-table: relative}\n"
                             "domains:\n"
                             "  example.com: {policy: nobody, publisher: primary, signers: [local, remote]}\n"
                             "  example: {policy: standard, publisher: primary, signers: local}\n";
  static const unsigned lines[] = {3, 4, 5, 6, 8, 10, 10, 10, 10, 12, 12, 13};
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  assert_int_equal(policy_parse("p.yaml", text, strlen(text), &policy, &findings, &error), ERROR_CONFIG);
  if (findings.count != ARRAY_SIZE(lines)) print_findings(&findings);
  assert_int_equal(findings.count, ARRAY_SIZE(lines));
  for (size_t i = 0; i < findings.count; i++) assert_int_equal(findings.items[i].place.line, lines[i]);
  assert_non_null(strstr(error.message, "wrong in 12 places"));
  assert_non_null(strstr(error.message, "p.yaml:3:5"));
}

static void test_policy_errors__there_are_at_most_a_hundred(void **state) {
  (void)state;
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  assert_non_null(stream);
  for (int i = 0; i < 300; i++) fprintf(stream, "unknown%d: 1\n", i);
  fclose(stream);
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  assert_int_equal(policy_parse("p.yaml", text, size, &policy, &findings, &error), ERROR_CONFIG);
  assert_int_equal(findings.count, POLICY_ERRORS_MAX);
  assert_true(findings.more);
  assert_non_null(strstr(error.message, "more than 100"));
}

static void test_policy_errors__findings_are_not_needed(void **state) {
  (void)state;
  struct policy *policy = NULL;
  assert_int_equal(policy_parse("p.yaml", "a: 1\n", 5, &policy, NULL, NULL), ERROR_CONFIG);
  assert_null(policy);
}

static void test_policy_errors__metrics_and_hooks(void **state) {
  (void)state;
#define SEE(text) text "\n" POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS
  assert_right(SEE("metrics: {file: /m/dkimroll.prom, domains: 0}"));
  assert_right(SEE("hooks: {transition: [/bin/logger, -t, a b], timeout: 1m}"));
  assert_right(SEE("hooks: {needs-person: [/bin/mail]}"));
  ASSERT_FINDINGS({SEE("metrics: {domains: 5}"), 1, 1, "metrics: file is missing"},
                  {SEE("metrics: {file: /m/dkimroll.txt}"), 1, 17, "does not end with .prom; name it so"},
                  {SEE("metrics: {file: m.prom}"), 1, 17, "is no absolute path"},
                  {SEE("metrics: {file: /m.prom, domains: 10001}"), 1, 35, "from 0 to 10000"},
                  {SEE("metrics: {fil: /m.prom}"), 1, 11, "did you mean \"file\"?"},
                  {SEE("hooks: {timeout: 5s}"), 1, 1, "neither transition nor needs-person is given"},
                  {SEE("hooks: {transition: /bin/true}"), 1, 21, "list"},
                  {SEE("hooks: {transition: [logger]}"), 1, 21, "hooks.transition: \"logger\" is no absolute path"},
                  {SEE("hooks: {needs-person: [./x]}"), 1, 23, "hooks.needs-person: \"./x\" is no absolute path"},
                  {SEE("hooks: {transition: []}"), 1, 21, "has 0 items; give 1 to 32"},
                  {SEE("hooks: {transition: [/bin/true], timeout: 11m}"), 1, 43, "from 1s to 10m"});
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_policy_errors__the_base_of_these_tests_is_right),
      cmocka_unit_test(test_policy_errors__unknown_keys_name_the_nearest),
      cmocka_unit_test(test_policy_errors__wrong_types_say_what_is_expected),
      cmocka_unit_test(test_policy_errors__bounds_are_named),
      cmocka_unit_test(test_policy_errors__missing_keys),
      cmocka_unit_test(test_policy_errors__duplicates_name_the_first),
      cmocka_unit_test(test_policy_errors__unknown_references),
      cmocka_unit_test(test_policy_errors__unknown_enum_values),
      cmocka_unit_test(test_policy_errors__weak_and_odd_keys),
      cmocka_unit_test(test_policy_errors__slots_with_one_template),
      cmocka_unit_test(test_policy_errors__life_too_short),
      cmocka_unit_test(test_policy_errors__life_that_piles_up_retired_keys),
      cmocka_unit_test(test_policy_errors__archive_needs_its_directory),
      cmocka_unit_test(test_policy_errors__addresses),
      cmocka_unit_test(test_policy_errors__milter_sockets),
      cmocka_unit_test(test_policy_errors__signer_values),
      cmocka_unit_test(test_policy_errors__signers_that_share),
      cmocka_unit_test(test_policy_errors__what_one_opendkim_cannot_do),
      cmocka_unit_test(test_policy_errors__one_key_path_for_two_domains),
      cmocka_unit_test(test_policy_errors__sender_patterns),
      cmocka_unit_test(test_policy_errors__domain_names),
      cmocka_unit_test(test_policy_errors__wrong_reference_is_found_once),
      cmocka_unit_test(test_policy_errors__all_come_in_one_go_and_in_order),
      cmocka_unit_test(test_policy_errors__one_mistake_hides_no_other),
      cmocka_unit_test(test_policy_errors__there_are_at_most_a_hundred),
      cmocka_unit_test(test_policy_errors__findings_are_not_needed),
      cmocka_unit_test(test_policy_errors__metrics_and_hooks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
