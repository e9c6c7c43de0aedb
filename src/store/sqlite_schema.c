#include "dkimroll/store_sqlite.h"

#include "dkimroll/cleanup.h"

/* Moments are UTC seconds; NULL: never recorded; 9223372036854775807: never comes. Versions of rules, publishers and signers are immutable, because
 * keys remember by their id what they were made with. A key's row stays for ever: it guards its selector (RFC 6376 3.1). */
static const char SCHEMA_1[] =
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE policy_file (position INTEGER PRIMARY KEY, path TEXT NOT NULL, size INTEGER NOT NULL,"
    " inode INTEGER NOT NULL, device INTEGER NOT NULL, modified_ns INTEGER NOT NULL, changed_ns INTEGER NOT NULL) "
    "STRICT;"

    "CREATE TABLE rules (id INTEGER PRIMARY KEY, name TEXT NOT NULL, content TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE publisher (id INTEGER PRIMARY KEY, name TEXT NOT NULL, content TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE signer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, content TEXT NOT NULL UNIQUE,"
    " used INTEGER NOT NULL DEFAULT 0 CHECK (used IN (0, 1))) STRICT;"
    "CREATE TRIGGER rules_immutable BEFORE UPDATE ON rules"
    " BEGIN SELECT RAISE(ABORT, 'versions of rules are immutable'); END;"
    "CREATE TRIGGER publisher_immutable BEFORE UPDATE ON publisher"
    " BEGIN SELECT RAISE(ABORT, 'versions of publishers are immutable'); END;"
    "CREATE TRIGGER signer_immutable BEFORE UPDATE OF id, name, content ON signer"
    " BEGIN SELECT RAISE(ABORT, 'versions of signers are immutable'); END;"

    "CREATE TABLE lineage (id INTEGER PRIMARY KEY,"
    /* These columns belong to sync. */
    " domain TEXT NOT NULL, slot TEXT NOT NULL, managed INTEGER NOT NULL CHECK (managed IN (0, 1)),"
    " rules_id INTEGER NOT NULL REFERENCES rules, publisher_id INTEGER NOT NULL REFERENCES publisher,"
    " signers TEXT NOT NULL, zone TEXT, senders TEXT,"
    /* These belong to the engine. */
    " forgotten INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1)),"
    " held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)), hold_reason TEXT, hold_until INTEGER,"
    " rotate_requested INTEGER NOT NULL DEFAULT 0 CHECK (rotate_requested IN (0, 1)),"
    " failures INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0), retry_at INTEGER, parked_at INTEGER, failure TEXT,"
    " next_moment INTEGER NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX lineage_name ON lineage (domain, slot);"
    "CREATE INDEX lineage_due ON lineage (next_moment) WHERE forgotten = 0;"

    "CREATE TABLE key (id INTEGER PRIMARY KEY, lineage_id INTEGER NOT NULL REFERENCES lineage,"
    " domain TEXT NOT NULL, selector TEXT NOT NULL COLLATE NOCASE CHECK (selector <> ''),"
    " algorithm INTEGER NOT NULL CHECK (algorithm IN (1, 2)), bits INTEGER NOT NULL,"
    " state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 7), state_since INTEGER, record TEXT, ttl INTEGER NOT NULL,"
    " created_at INTEGER, generated_at INTEGER, published_at INTEGER, right_at INTEGER, propagation INTEGER NOT NULL,"
    " last_wrong_at INTEGER, confirmed_at INTEGER, ready_at INTEGER, active_at INTEGER, retired_at INTEGER,"
    " revoke_at INTEGER, revoked_at INTEGER, deleted_at INTEGER, absent_at INTEGER, removed_at INTEGER,"
    " ttl_negative INTEGER NOT NULL, ttl_old INTEGER NOT NULL, intent_open INTEGER NOT NULL CHECK (intent_open IN (0, "
    "1)),"
    " intent INTEGER NOT NULL, intent_at INTEGER, publisher_id INTEGER NOT NULL REFERENCES publisher,"
    " zone TEXT NOT NULL, owner TEXT NOT NULL, primary_server TEXT NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX key_selector ON key (domain, selector);"
    "CREATE INDEX key_living ON key (lineage_id) WHERE state <> 7;"
    "CREATE INDEX key_removed ON key (lineage_id) WHERE state = 7;"
    "CREATE UNIQUE INDEX key_active ON key (lineage_id) WHERE state = 4;"
    "CREATE TRIGGER key_kept BEFORE DELETE ON key"
    " BEGIN SELECT RAISE(ABORT, 'keys are never deleted: they guard their selectors'); END;"
    "CREATE TRIGGER key_named BEFORE UPDATE OF id, lineage_id, domain, selector ON key"
    " BEGIN SELECT RAISE(ABORT, 'a key never changes its name'); END;"
    "CREATE TRIGGER key_ended BEFORE UPDATE OF state ON key WHEN OLD.state = 7 AND NEW.state <> 7"
    " BEGIN SELECT RAISE(ABORT, 'a removed key never comes back'); END;"

    "CREATE TABLE placement (key_id INTEGER NOT NULL REFERENCES key, position INTEGER NOT NULL,"
    " signer_id INTEGER NOT NULL REFERENCES signer, key_path TEXT, file_made INTEGER NOT NULL CHECK (file_made IN (0, "
    "1)),"
    " switched_at INTEGER, proved_at INTEGER, drained_at INTEGER, destroyed INTEGER NOT NULL CHECK (destroyed IN (0, "
    "1)),"
    " failure TEXT, PRIMARY KEY (key_id, position)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX placement_path ON placement (key_path) WHERE key_path IS NOT NULL;"
    "CREATE TRIGGER placement_added AFTER INSERT ON placement"
    " BEGIN UPDATE signer SET used = 1 WHERE id = NEW.signer_id AND used = 0; END;"
    "CREATE TRIGGER placement_moved AFTER UPDATE OF signer_id ON placement WHEN OLD.signer_id <> NEW.signer_id"
    " BEGIN UPDATE signer SET used = 1 WHERE id = NEW.signer_id AND used = 0; END;"

    "CREATE TABLE sighting (key_id INTEGER NOT NULL REFERENCES key, position INTEGER NOT NULL,"
    " host TEXT NOT NULL, address TEXT NOT NULL, is_right INTEGER NOT NULL CHECK (is_right IN (0, 1)),"
    " no_route INTEGER NOT NULL CHECK (no_route IN (0, 1)), count INTEGER NOT NULL, right_since INTEGER,"
    " last_wrong_at INTEGER, seen_at INTEGER, answer TEXT NOT NULL,"
    " PRIMARY KEY (key_id, position)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, lineage_id INTEGER REFERENCES lineage, domain "
    "TEXT,"
    " slot TEXT, selector TEXT, kind TEXT NOT NULL, from_state TEXT, to_state TEXT, reason TEXT) STRICT;"
    "CREATE INDEX event_domain ON event (domain) WHERE domain IS NOT NULL;"
    "CREATE TRIGGER event_unchanged BEFORE UPDATE ON event"
    " BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;"
    "CREATE TRIGGER event_kept BEFORE DELETE ON event"
    " BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;"

    /* AUTOINCREMENT: the number of an executed request is never given to another. */
    "CREATE TABLE request (id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 4),"
    " domain TEXT NOT NULL, reason TEXT, until INTEGER, asked_at INTEGER NOT NULL, asked_by TEXT) STRICT;"
    "CREATE TABLE resource (name TEXT PRIMARY KEY, failures INTEGER NOT NULL CHECK (failures > 0), retry_at INTEGER,"
    " failure TEXT) STRICT, WITHOUT ROWID;"
    "CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), boot_id TEXT NOT NULL, wall INTEGER NOT NULL,"
    " boottime INTEGER NOT NULL, credited INTEGER NOT NULL, attested INTEGER NOT NULL CHECK (attested IN (0, 1))) "
    "STRICT;";

/* Proofs of keys that sign, and what they found. */
static const char SCHEMA_2[] =
    "ALTER TABLE key ADD COLUMN contested_at INTEGER;"
    "ALTER TABLE key ADD COLUMN proof_failures INTEGER NOT NULL DEFAULT 0 CHECK (proof_failures >= 0);"
    "ALTER TABLE key ADD COLUMN proof_retry_at INTEGER;"
    "ALTER TABLE placement ADD COLUMN damage INTEGER NOT NULL DEFAULT 0 CHECK (damage BETWEEN 0 AND 5);"
    "ALTER TABLE placement ADD COLUMN damaged_at INTEGER;"
    /* What dkimroll last wrote or saw in a signer's tables; woken: the lineages up to this id know of the last change by others. */
    "CREATE TABLE signer_tables (key_table TEXT NOT NULL, signing_table TEXT NOT NULL, digest TEXT NOT NULL,"
    " state TEXT NOT NULL, changed_at INTEGER, woken INTEGER NOT NULL, PRIMARY KEY (key_table, signing_table))"
    " STRICT, WITHOUT ROWID;";

/* What a daemon, emergencies and the control of waves remember. */
static const char SCHEMA_3[] =
    "ALTER TABLE request RENAME TO request_2;"
    "CREATE TABLE request (id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 16),"
    " domain TEXT NOT NULL, reason TEXT, until INTEGER, asked_at INTEGER NOT NULL, asked_by TEXT) STRICT;"
    "INSERT INTO request SELECT id, kind, domain, reason, until, asked_at, asked_by FROM request_2;"
    /* The number of an executed request is not given again after the move either. */
    "UPDATE sqlite_sequence SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'request_2') WHERE name = 'request';"
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'request', seq FROM sqlite_sequence WHERE name = 'request_2'"
    " AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'request');"
    "DROP TABLE request_2;"
    /* Control: holds of activation alone. */
    "ALTER TABLE lineage ADD COLUMN hold_scope INTEGER NOT NULL DEFAULT 0 CHECK (hold_scope BETWEEN 0 AND 1);"
    "ALTER TABLE request ADD COLUMN hold_scope INTEGER NOT NULL DEFAULT 0 CHECK (hold_scope BETWEEN 0 AND 1);"
    /* Control: places in runs, limits of waves, and how the present one stands. */
    "ALTER TABLE lineage ADD COLUMN begin_place INTEGER;"
    "ALTER TABLE lineage ADD COLUMN switch_place INTEGER;"
    "CREATE TABLE wave (id INTEGER PRIMARY KEY CHECK (id = 1), max_per_run INTEGER NOT NULL, budget INTEGER NOT NULL CHECK (budget IN (0, 1)),"
    " percent INTEGER NOT NULL CHECK (percent IN (0, 1)), failures INTEGER NOT NULL, run INTEGER, begun INTEGER NOT NULL DEFAULT 0,"
    " begin_last INTEGER, begin_given INTEGER NOT NULL DEFAULT 0, switched INTEGER NOT NULL DEFAULT 0, switch_last INTEGER,"
    " switch_given INTEGER NOT NULL DEFAULT 0, away_since INTEGER, returned_at INTEGER, spread INTEGER NOT NULL DEFAULT 0, period INTEGER,"
    " ended INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, first TEXT NOT NULL DEFAULT '', first_action INTEGER NOT NULL DEFAULT 0,"
    " stopped_at INTEGER, stopped_ended INTEGER NOT NULL DEFAULT 0, stopped_failed INTEGER NOT NULL DEFAULT 0, probe_at INTEGER,"
    " probes INTEGER NOT NULL DEFAULT 0) STRICT;"
    /* Emergencies: which key, and how; what is known of a compromised key; when the private key of one that waits was last looked at. */
    "ALTER TABLE request ADD COLUMN selector TEXT;"
    "ALTER TABLE request ADD COLUMN options INTEGER NOT NULL DEFAULT 0 CHECK (options >= 0);"
    "ALTER TABLE key ADD COLUMN compromised_at INTEGER;"
    "ALTER TABLE key ADD COLUMN revoke_now INTEGER NOT NULL DEFAULT 0 CHECK (revoke_now IN (0, 1));"
    "ALTER TABLE key ADD COLUMN lingers_until INTEGER;"
    "ALTER TABLE key ADD COLUMN files_seen_at INTEGER;"
    /* Each key has a pause of its own. One that failed before the move begins anew, which is at most one attempt too early. */
    "ALTER TABLE key ADD COLUMN failures INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0);"
    "ALTER TABLE key ADD COLUMN retry_at INTEGER;"
    "ALTER TABLE key ADD COLUMN failure TEXT;"
    /* For metrics: by how much the clock of a publisher's server was ahead of ours, as its last reply with a right TSIG said. */
    "CREATE TABLE publisher_clock (publisher_id INTEGER PRIMARY KEY REFERENCES publisher, skew INTEGER NOT NULL,"
    " measured_at INTEGER NOT NULL) STRICT;"
    /* For hooks: what needs a person, since when, and when a person was told. */
    "CREATE TABLE alarm (subject TEXT PRIMARY KEY, domain TEXT, since INTEGER NOT NULL, told_at INTEGER, text TEXT NOT NULL)"
    " STRICT, WITHOUT ROWID;"
    /* What belongs into a zone that is written as a whole. */
    "CREATE INDEX key_zone ON key (zone) WHERE state BETWEEN 2 AND 6;";

/* A selector that was given up or reserved before there was a key guards a name alone: import may find the key that has it. */
static const char SCHEMA_4[] =
    "DROP TRIGGER key_ended;"
    "CREATE TRIGGER key_ended BEFORE UPDATE OF state ON key WHEN OLD.state = 7 AND NEW.state <> 7"
    " AND (OLD.generated_at IS NOT NULL OR OLD.active_at IS NOT NULL OR OLD.compromised_at IS NOT NULL)"
    " BEGIN SELECT RAISE(ABORT, 'a removed key never comes back'); END;"
    /* Looks fail apart from the steps whose failure they would hide. */
    "ALTER TABLE key ADD COLUMN look_failures INTEGER NOT NULL DEFAULT 0 CHECK (look_failures >= 0);"
    "ALTER TABLE key ADD COLUMN look_retry_at INTEGER;";

/* MIGRATIONS[n] leads from schema n to n + 1, in one transaction. Released ones are never edited. */
static const char *const MIGRATIONS[] = {SCHEMA_1, SCHEMA_2, SCHEMA_3, SCHEMA_4};
_Static_assert(ARRAY_SIZE(MIGRATIONS) == STORE_SCHEMA_VERSION, "one migration for each schema version");

struct schema_facts {
  int64_t application, version, objects;
};

static int facts_read(struct sqlite_store *store, struct schema_facts *ret_facts, struct error *error) {
  static const char sql[] = "SELECT (SELECT application_id FROM pragma_application_id),"
                            " (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (!code) code = sqlite_query_step(&query, &row, error);
  if (code) return code;
  ret_facts->application = sqlite_read_number(&query, INT32_MIN, INT32_MAX);
  ret_facts->version = sqlite_read_number(&query, INT32_MIN, INT32_MAX);
  ret_facts->objects = sqlite_read_number(&query, 0, INT64_MAX);
  return sqlite_query_check(&query, "sqlite_schema", 0, error);
}

static int facts_check(const struct sqlite_store *store, const struct schema_facts *facts, struct error *error) {
  const bool empty = facts->application == 0 && facts->version == 0 && facts->objects == 0;
  if (empty) return 0;
  if (facts->application != SQLITE_APPLICATION_ID || facts->version < 1) {
    error_set(error, ERROR_CONFIG, "store %s: this is an SQLite database of another program (application id 0x%08llx)",
              store->path, (unsigned long long)(facts->application & 0xffffffff));
    return error_remedy(error,
                        "let `state:` in the policy name a path of its own; dkimroll changes nothing in this file");
  }
  if (facts->version > STORE_SCHEMA_VERSION) {
    error_set(error, ERROR_CONFIG, "store %s: it has schema %lld, and this dkimroll %s knows schemas up to %d",
              store->path, (long long)facts->version, DKIMROLL_VERSION, STORE_SCHEMA_VERSION);
    return error_remedy(error, "a newer dkimroll has used this store: install at least that version again");
  }
  return 0;
}

int sqlite_schema_check(struct sqlite_store *store, bool read_only, int64_t *ret_version, struct error *error) {
  struct schema_facts facts = {0};
  int code = facts_read(store, &facts, error);
  if (!code) code = facts_check(store, &facts, error);
  if (code) return code;
  if (read_only && facts.version == 0) {
    error_set(error, ERROR_NOT_FOUND, "store %s is empty", store->path);
    return error_remedy(error, "nothing has run yet: dkimroll run");
  }
  if (read_only && facts.version < STORE_SCHEMA_VERSION) {
    error_set(error, ERROR_CONFIG, "store %s: it has schema %lld, and this dkimroll reads schema %d", store->path,
              (long long)facts.version, STORE_SCHEMA_VERSION);
    return error_remedy(error, "bring it up to date: dkimroll run");
  }
  *ret_version = facts.version;
  return 0;
}

static int migrate_step(struct sqlite_store *store, int64_t from, struct error *error) {
  CLEANUP(sqlite_transaction_end) struct sqlite_transaction transaction = {0};
  struct schema_facts facts = {0};
  int code = sqlite_transaction_begin(store, true, &transaction, error);
  /* Read again under the lock: another process may have been faster. */
  if (!code) code = facts_read(store, &facts, error);
  if (!code) code = facts_check(store, &facts, error);
  if (code || facts.version != from) return code;
  char stamp[96];
  snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d; PRAGMA user_version = %lld", SQLITE_APPLICATION_ID,
           (long long)from + 1);
  int result = sqlite3_exec(store->database, MIGRATIONS[from], NULL, NULL, NULL);
  if (result == SQLITE_OK) result = sqlite3_exec(store->database, stamp, NULL, NULL, NULL);
  if (result != SQLITE_OK) return sqlite_fail(store, result, "making the tables", error);
  return sqlite_transaction_commit(&transaction, error);
}

int sqlite_schema_migrate(struct sqlite_store *store, int64_t version, struct error *error) {
  int code = 0;
  for (; version < STORE_SCHEMA_VERSION && !code; version++) code = migrate_step(store, version, error);
  return code;
}
