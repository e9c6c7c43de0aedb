#include "sim_signer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "../unit/dkim_signer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/table_index.h"
#include "dkimroll/text.h"

enum { SIM_KEYS_MAX = 256, SIM_KEY_FILE_MAX = 64 * 1024 };

/* What a file of that content is; files are read for each message, their arithmetic is done once. */
struct sim_signer_key {
  char *content;
  size_t size;
  EVP_PKEY *key; /* NULL: the content is no private key */
  char record[SIM_SIGNER_RECORD_SIZE];
};

struct sim_signer_connection {
  struct sim_signer *signer;
  struct sim_signer_connection *next;
  struct sim_tables *tables;
  unsigned life;
};

void sim_signer_init(struct sim_signer *signer, const struct sim_tables_paths *paths, const char *milter, const char *pid_file, struct entropy *entropy) {
  *signer = (struct sim_signer){.paths = *paths, .entropy = entropy};
  assert_true(text_copy(signer->milter, sizeof(signer->milter), milter));
  assert_true(text_copy(signer->pid_file, sizeof(signer->pid_file), pid_file));
  signer->cache = calloc(SIM_KEYS_MAX, sizeof(*signer->cache));
  assert_non_null(signer->cache);
}

static void forget_key(struct sim_signer_key *key) {
  if (key->content) OPENSSL_cleanse(key->content, key->size);
  free(key->content);
  EVP_PKEY_free(key->key);
  *key = (struct sim_signer_key){0};
}

void sim_signer_release(struct sim_signer *signer) {
  sim_signer_stop(signer);
  while (signer->connections) sim_signer_disconnect(signer->connections);
  for (size_t i = 0; i < SIM_KEYS_MAX; i++) forget_key(&signer->cache[i]);
  free(signer->cache);
  *signer = (struct sim_signer){0};
}

bool sim_signer_start(struct sim_signer *signer) {
  if (!signer->tables) signer->tables = sim_tables_read(&signer->paths);
  return signer->tables != NULL;
}

void sim_signer_stop(struct sim_signer *signer) {
  sim_tables_drop(signer->tables);
  signer->tables = NULL;
  signer->reload_due = false;
  signer->life++;
}

bool sim_signer_restart(struct sim_signer *signer) {
  sim_signer_stop(signer);
  return sim_signer_start(signer);
}

bool sim_signer_is_up(const struct sim_signer *signer) {
  return signer->tables != NULL;
}

bool sim_signer_chance(struct sim_signer *signer, unsigned percent) {
  return percent > 0 && entropy_below(signer->entropy, 100) < percent;
}

int sim_signer_reload(struct sim_signer *signer, bool probe, struct error *error) {
  if (!signer->tables) {
    error_set(error, ERROR_NOT_FOUND, "pid file %s: there is no such process", signer->pid_file);
    error_remedy(error, "opendkim has ended: see its log (journalctl -u opendkim), and start it");
    return ERROR_NOT_FOUND;
  }
  if (signer->faults.reload_fails) {
    error_set(error, ERROR_REFUSED, "pid file %s: the reload failed", signer->pid_file);
    error_remedy(error, "see the log of opendkim (journalctl -u opendkim)");
    return ERROR_REFUSED;
  }
  if (!probe && !signer->faults.reload_is_lost) signer->reload_due = true;
  return 0;
}

/* The command is not run: its word is the pid file, so that both ways name the signer alike. */
static int restart_by_job(struct sim_signer *signer, struct error *error) {
  if (!signer->tables || signer->faults.reload_fails) return error_set(error, ERROR_REFUSED, "the restart failed");
  return sim_signer_restart(signer) ? 0 : error_set(error, ERROR_REFUSED, "it does not come back with the tables that it finds");
}

static int run_reload(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)reply;
  const struct sim_signers *signers = context;
  const unsigned asked = reader_u8(request);
  const bool probe = asked == 1, restart = asked == 2;
  (void)reader_u8(request);
  (void)reader_u64(request);
  size_t size = 0;
  const char *target = (const char *)reader_field(request, &size); /* with its NUL */
  if (restart && reader_u32(request) == 1) target = (const char *)reader_field(request, &size);
  if (request->failed || size == 0 || target[size - 1] != '\0') return error_set(error, ERROR_PROTOCOL, "keeper: a malformed reload");
  for (size_t i = 0; i < signers->count; i++)
    if (text_equal(signers->items[i]->pid_file, target))
      return restart ? restart_by_job(signers->items[i], error) : sim_signer_reload(signers->items[i], probe, error);
  return error_set(error, ERROR_PERMISSION, "keeper: %s is no reload of a signer of the world", target);
}

struct keeper_handler sim_signer_reload_handler(const struct sim_signers *signers) {
  return (struct keeper_handler){.job = KEEPER_RELOAD, .run = run_reload, .context = (void *)(uintptr_t)signers};
}

struct sim_tables *sim_signer_accept(struct sim_signer *signer) {
  if (!signer->tables || signer->faults.refuses) return NULL;
  signer->connects++;
  if (signer->reload_due) {
    struct sim_tables *fresh = sim_tables_read(&signer->paths);
    signer->reload_due = false;
    signer->reloads++;
    signer->refused_reloads += fresh == NULL;
    if (fresh) {
      sim_tables_drop(signer->tables);
      signer->tables = fresh;
    }
  }
  return sim_tables_hold(signer->tables);
}

static void read_key(struct sim_signer_key *key) {
  BIO *memory = BIO_new_mem_buf(key->content, (int)key->size);
  assert_non_null(memory);
  key->key = PEM_read_bio_PrivateKey(memory, NULL, NULL, NULL);
  BIO_free(memory);
  if (!key->key) return;
  CLEANUP_FREE char *record = dkim_signer_record(key->key);
  assert_true(text_copy(key->record, sizeof(key->record), record));
}

const struct sim_signer_key *sim_signer_open_key(struct sim_signer *signer, const char *path) {
  struct stat status;
  struct error error;
  char *content = NULL;
  size_t size = 0;
  if (file_read(path, SIM_KEY_FILE_MAX, &content, &size, &status, &error) < 0) return NULL;
  if (status.st_mode & S_IRWXO || !(status.st_mode & (S_IRUSR | S_IRGRP))) {
    free(content);
    return NULL;
  }
  struct sim_signer_key *key = &signer->cache[table_hash(content, size, false) % SIM_KEYS_MAX];
  if (key->content && key->size == size && memcmp(key->content, content, size) == 0) {
    OPENSSL_cleanse(content, size);
    free(content);
  } else {
    forget_key(key);
    *key = (struct sim_signer_key){.content = content, .size = size};
    read_key(key);
  }
  return key->key ? key : NULL;
}

struct evp_pkey_st *sim_signer_private_key(const struct sim_signer_key *key) {
  return key->key;
}

struct sim_signer_connection *sim_signer_connect(struct sim_signer *signer) {
  struct sim_tables *tables = sim_signer_accept(signer);
  if (!tables) return NULL;
  struct sim_signer_connection *connection = calloc(1, sizeof(*connection));
  assert_non_null(connection);
  *connection = (struct sim_signer_connection){.signer = signer, .tables = tables, .life = signer->life, .next = signer->connections};
  signer->connections = connection;
  return connection;
}

void sim_signer_disconnect(struct sim_signer_connection *connection) {
  if (!connection) return;
  struct sim_signer_connection **place = &connection->signer->connections;
  while (*place != connection) place = &(*place)->next;
  *place = connection->next;
  sim_tables_drop(connection->tables);
  free(connection);
}

static enum sim_signer_verdict sign(struct sim_signer *signer, const struct sim_tables *tables, const char *address,
                                    struct sim_signer_signature *signatures, size_t *ret_count) {
  struct sim_tables_match matches[SIM_TABLES_MATCHES_MAX];
  const size_t count = sim_tables_match(tables, address, matches);
  for (size_t i = 0; i < count; i++) {
    const struct sim_signer_key *key = matches[i].broken ? NULL : sim_signer_open_key(signer, matches[i].path);
    if (!key) return SIM_SIGNER_TEMPFAILED;
    memcpy(signatures[i].domain, matches[i].domain, sizeof(matches[i].domain));
    memcpy(signatures[i].selector, matches[i].selector, sizeof(matches[i].selector));
    memcpy(signatures[i].record, key->record, sizeof(key->record));
  }
  signer->signatures += count;
  *ret_count = count;
  return count ? SIM_SIGNER_SIGNED : SIM_SIGNER_UNSIGNED;
}

enum sim_signer_verdict sim_signer_sign(struct sim_signer *signer, struct sim_signer_connection *connection, const char *address,
                                        struct sim_signer_signature ret_signatures[SIM_TABLES_MATCHES_MAX], size_t *ret_count) {
  *ret_count = 0;
  if (connection) {
    if (connection->life != signer->life) return SIM_SIGNER_DOWN;
    return sign(signer, connection->tables, address, ret_signatures, ret_count);
  }
  struct sim_tables *tables = sim_signer_accept(signer);
  if (!tables) return SIM_SIGNER_DOWN;
  enum sim_signer_verdict verdict = sign(signer, tables, address, ret_signatures, ret_count);
  sim_tables_drop(tables);
  return verdict;
}

const char *sim_signer_public_key(const struct sim_signer_signature *signature) {
  const char *place = strstr(signature->record, "p=");
  return place ? place + 2 : "";
}
