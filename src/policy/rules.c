#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/policy_checks.h"
#include "dkimroll/policy_tables.h"
#include "dkimroll/text.h"

enum { RSA_BITS_DEFAULT = 2048, ED25519_BITS = 256, KEYS_BESIDE_RETIRED = 2 /* the active one and its successor */ };

int64_t policy_shortest_life(const struct policy_rules *rules) {
  const int64_t sightings = (int64_t)rules->confirm_sightings * rules->confirm_every;
  return 2 * (rules->publish_safety + sightings);
}

int64_t policy_least_life(const struct policy_rules *rules) {
  return rules->rotate_every == TIME_NEVER ? TIME_NEVER : rules->rotate_every - rules->jitter;
}

/* How long a key stays after its successor took its place. */
static int64_t retired_life(const struct policy_rules *rules) {
  return rules->drain + rules->queue_lifetime + rules->queue_backoff + rules->verify_window + rules->retire_safety +
         rules->tombstone;
}

unsigned policy_living_keys(const struct policy_rules *rules) {
  const int64_t beside = KEYS_BESIDE_RETIRED + (int64_t)rules->standby;
  const int64_t life = policy_least_life(rules);
  if (life == TIME_NEVER || life <= 0) return (unsigned)beside;
  const int64_t retired = (retired_life(rules) + life - 1) / life;
  return beside + retired > UINT_MAX ? UINT_MAX : (unsigned)(beside + retired);
}

/* RFC 8301 3.2: signers SHOULD use at least 2048 bits; verifiers need not know more than 4096. */
void policy_bits_check(const struct policy_node *node, void *record, struct policy_report *report) {
  const struct policy_key *key = record;
  const struct policy_place place = policy_node_place(node, "bits");
  const bool is_rsa = key->algorithm == KEY_ALGORITHM_RSA;
  char path[POLICY_PATH_SIZE];
  if (key->bits == 0) return;
  policy_node_path(node, path);
  if (is_rsa && key->bits < RSA_BITS_DEFAULT) {
    policy_report_add(report, place, "%s.bits: RSA keys of %u bits are too weak (RFC 8301 3.2); use 2048, 3072 or 4096",
                      path, key->bits);
  } else if (is_rsa && key->bits != 2048 && key->bits != 3072 && key->bits != 4096) {
    policy_report_add(report, place, "%s.bits: %u is no usual size of an RSA key; use 2048, 3072 or 4096", path,
                      key->bits);
  } else if (!is_rsa && key->bits != ED25519_BITS) {
    policy_report_add(report, place, "%s.bits: keys of Ed25519 have 256 bits; remove bits", path);
  }
}

/* Fills in what a key takes from its rules, and checks it beside the keys before it. */
static void check_slot(const struct policy_node *node, struct policy_rules *rules, size_t index,
                       struct policy_report *report) {
  struct policy_key *key = &rules->keys[index];
  const struct policy_node *own = policy_node_find(policy_node_find(node, "keys"), key->slot);
  char path[POLICY_PATH_SIZE];
  policy_node_path(own ? own : node, path);
  if (key->bits == 0) key->bits = key->algorithm == KEY_ALGORITHM_RSA ? RSA_BITS_DEFAULT : ED25519_BITS;
  if (!key->selector) key->selector = text_duplicate(rules->selector);
  if (!key->selector) policy_report_no_memory(report);
  for (size_t i = 0; i < index; i++) {
    if (!text_equal(rules->keys[i].selector, key->selector)) continue;
    /* Numbering would keep the names apart, but nobody could tell by a selector which key it is. */
    policy_report_add(
        report, policy_node_place(own ? own : node, "selector"),
        "%s has the same selector template as key \"%s\"; give each key one of its own, as in \"%s-%%Y%%m%%d\"", path,
        rules->keys[i].slot, key->slot);
    return;
  }
}

void policy_slots_check(const struct policy_node *node, void *record, struct policy_report *report) {
  struct policy_rules *rules = record;
  for (size_t i = 0; i < rules->key_count; i++) check_slot(node, rules, i, report);
}

void policy_life_check(const struct policy_node *node, void *record, struct policy_report *report) {
  const struct policy_rules *rules = record;
  const struct policy_place place = policy_node_place(node, "rotate-every");
  const int64_t shortest = policy_shortest_life(rules);
  const int64_t room = POLICY_LIVING_KEYS_MAX - KEYS_BESIDE_RETIRED - (int64_t)rules->standby;
  char path[POLICY_PATH_SIZE];
  char life[DURATION_TEXT_SIZE];
  char other[DURATION_TEXT_SIZE];
  policy_node_path(node, path);
  duration_format(policy_least_life(rules), life);
  if (policy_least_life(rules) <= shortest) {
    policy_report_add(
        report, place,
        "%s.rotate-every: a life of %s%s is too short: it must be longer than %s, which is twice what the "
        "publication of the next key takes (publish.safety + confirm.sightings times confirm.every); rotate "
        "less often, or shorten those",
        path, life, rules->jitter > 0 ? " (less all of the jitter)" : "", duration_format(shortest, other));
  } else if (policy_living_keys(rules) > POLICY_LIVING_KEYS_MAX) {
    const int64_t retired = retired_life(rules);
    char needed[DURATION_TEXT_SIZE];
    duration_format(retired, other);
    policy_report_add(
        report, place,
        "%s.rotate-every: with a life of %s there would be %u keys of one slot at once, more than %d, because each "
        "stays for %s after its turn (sum of the times under retire); give at least %" PRId64
        " (%s), or shorten retire.tombstone",
        path, life, policy_living_keys(rules), POLICY_LIVING_KEYS_MAX, other, (retired + room - 1) / room,
        duration_format((retired + room - 1) / room, needed));
  }
}

void policy_archive_check(const struct policy_node *node, void *record, struct policy_report *report) {
  const struct policy_rules *rules = record;
  const bool archives = rules->private_key == PRIVATE_KEY_ARCHIVE;
  if (archives == (rules->archive_directory != NULL)) return;
  char path[POLICY_PATH_SIZE];
  policy_node_path(node, path);
  if (archives) {
    policy_report_add(
        report, policy_node_place(node, "private-key"),
        "%s: archive-directory is missing; say where private keys go, as in /var/lib/dkimroll/archive/%%d", path);
  } else {
    policy_report_add(
        report, policy_node_place(node, "archive-directory"),
        "%s: archive-directory is given, but private keys are destroyed; add private-key: archive, or remove it", path);
  }
}

/* Of several ways to ask a signer exactly one is given; a command is run without a shell. */
static void ways_check(const struct policy_node *node, const char *const *kinds, size_t kind_count, const char *command,
                       struct policy_report *report) {
  size_t given = 0;
  char path[POLICY_PATH_SIZE];
  policy_node_path(node, path);
  for (size_t i = 0; i < kind_count; i++) given += policy_node_find(node, kinds[i]) != NULL;
  if (given != 1) {
    policy_report_add(report, node->place, "%s: give exactly one of unit%s and command (%zu are given)", path,
                      kind_count > 2 ? ", pid-file" : "", given);
  } else if (command && policy_check_path(command, NULL) < 0) {
    policy_report_add(
        report, policy_node_place(node, "command"),
        "%s.command: \"%s\" is no absolute path; no shell and no PATH are used: give the program's path and its "
        "arguments as a list",
        path, command);
  }
}

void policy_reload_check(const struct policy_node *node, void *record, struct policy_report *report) {
  static const char *const kinds[] = {"unit", "pid-file", "command"};
  const struct policy_signer *signer = record;
  ways_check(node, kinds, ARRAY_SIZE(kinds), signer->reload == RELOAD_COMMAND ? signer->reload_command[0] : NULL, report);
}

/* There is no way to restart a process by its number alone. */
void policy_restart_check(const struct policy_node *node, void *record, struct policy_report *report) {
  static const char *const kinds[] = {"unit", "command"};
  const struct policy_signer *signer = record;
  ways_check(node, kinds, ARRAY_SIZE(kinds), signer->restart == RELOAD_COMMAND ? signer->restart_command[0] : NULL, report);
}

void policy_signer_tables_check(const struct policy_node *node, void *record, struct policy_report *report) {
  const struct policy_signer *signer = record;
  char path[POLICY_PATH_SIZE];
  policy_node_path(node, path);
  if (text_equal(signer->key_table, signer->signing_table)) {
    policy_report_add(report, policy_node_place(node, "signing-table"),
                      "%s: key-table and signing-table are the same file; name the two that "
                      "opendkim.conf names as KeyTable and SigningTable",
                      path);
  }
}

void policy_mode_check(const struct policy_node *node, void *record, struct policy_report *report) {
  const struct policy_signer *signer = record;
  char path[POLICY_PATH_SIZE];
  policy_node_path(node, path);
  /* What OpenDKIM accepts with RequireSafeKeys: nothing for others, and the owner must be able to read. */
  if ((signer->mode & ~(mode_t)0660) != 0 || (signer->mode & 0400) == 0) {
    policy_report_add(report, policy_node_place(node, "mode"),
                      "%s.mode: OpenDKIM refuses private keys with mode %04o; use 0600 or 0400, or 0640 where the "
                      "group is the signer's",
                      path, (unsigned)signer->mode);
  }
}
