#include <stdlib.h>
#include <string.h>

#include "dkimroll/check.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

/* One job of the keeper about one path. */
struct check_job {
  struct check *check;
  const struct check_key *key;
  const struct policy_signer *signer;
  bool read;  /* READ_PUBLIC, else CHECK_KEY */
  char *path; /* owned */
};

static void free_job(struct check_job **job) {
  if (*job) free((*job)->path);
  free(*job);
}

static void say(const struct check_job *job, const struct finding *finding) {
  CLEANUP_FREE char *subject = text_format("private keys for signer %s", job->signer->name);
  struct finding copy = *finding;
  copy.subject = subject ? subject : job->signer->name;
  copy.who = job->key->domain->name;
  check_say(job->check, CHECK_KEYS, &copy);
}

static void say_error(const struct check_job *job, const struct error *error) {
  say(job, &(struct finding){.level = FINDING_FAILED,
                             .code = error->code,
                             .text = (char *)error->message,
                             .remedy = (char *)error->remedy});
}

/* Does the file that signs belong to the record that is published? */
static int compare_record(const struct check_job *job, const uint8_t *reply, size_t reply_size, struct error *error) {
  CLEANUP(keypair_public_release) struct keypair_public public_key = {0};
  bool belongs = false;
  int result = key_jobs_read_public(reply, reply_size, &public_key, error);
  if (!result) result = record_holds(job->key->record, public_key.algorithm, public_key.public_key, public_key.public_key_size, &belongs, error);
  if (result || belongs) return result;
  error_set(error, ERROR_CONFLICT, "the private key %s does not belong to the record of %s", job->path,
            job->key->selector);
  return error_remedy(error,
                      "somebody replaced the file: put the right one back, or make a new key with `dkimroll rotate %s`",
                      job->key->domain->name);
}

static void job_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  CLEANUP(free_job) struct check_job *job = context;
  struct error error = *result;
  if (!error.code && job->read && job->key->record && compare_record(job, reply, reply_size, &error) == 0)
    error.code = 0;
  if (error.code)
    say_error(job, &error);
  else
    say(job, &(struct finding){.text = (char *)(job->read ? "the private key belongs to the record"
                                                          : "the signer may read its keys there")});
  check_end(job->check);
}

/* Who reads the keys: their owner, unless that is root, which owns them for a signer that reads by its group ("root:opendkim", where the
 * group has the name of its user). */
static char *reader_of(const char *owner) {
  const char *group = owner ? strchr(owner, ':') : NULL;
  if (!group || strncmp(owner, "root:", strlen("root:")) != 0 || text_equal(group + 1, "root")) return text_duplicate(owner);
  return text_format("%s%s", group + 1, group);
}

static int submit(struct check_job *job, struct error *error) {
  struct check *check = job->check;
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEYPAIR_FILE_MAX);
  CLEANUP_FREE char *reader = reader_of(job->signer->owner);
  if (job->signer->owner && !reader) return error_set(error, ERROR_NO_MEMORY, "out of memory for the name of the reader");
  if (job->read)
    key_jobs_path(&payload, job->path);
  else
    key_jobs_check(&payload, job->path, reader);
  int result = keeper_submit(check->session.backends.keeper, job->read ? KEEPER_READ_PUBLIC : KEEPER_CHECK_KEY,
                             &payload, check_deadline(check, CHECK_KEYS_SECONDS), job_done, job, error);
  buffer_release(&payload);
  return result;
}

static void start_job(struct check *check, const struct check_key *key, size_t place, bool read) {
  CLEANUP(free_job) struct check_job *job = calloc(1, sizeof *job);
  struct error error = {0};
  if (!job) {
    check_say_no_memory(check, CHECK_KEYS, "private keys");
    return;
  }
  *job = (struct check_job){
      .check = check, .key = key, .signer = &check->session.policy->signers[key->domain->signers[place]], .read = read};
  const char *selector = key->selector[0] ? key->selector : CHECK_SELECTOR;
  int result = 0;
  if (key->paths[place])
    job->path = text_duplicate(key->paths[place]);
  else
    result = policy_signer_key_path(job->signer, key->domain->name, selector, &job->path, &error);
  if (!result && !job->path) result = error_set(&error, ERROR_NO_MEMORY, "out of memory for a path");
  if (!result) result = submit(job, &error);
  if (result) {
    say_error(job, &error);
    return;
  }
  check_begin(check);
  TAKE_PTR(job);
}

void check_keys_start(struct check *check) {
  for (size_t i = 0; i < check->key_count; i++) {
    const struct check_key *key = &check->keys[i];
    for (size_t j = 0; j < key->domain->signer_count; j++) {
      start_job(check, key, j, false);
      /* Of one that import found in a KeyTable itself there is no file. */
      const bool in_table = key->names[j] && !key->paths[j];
      if (key->selector[0] && !in_table) start_job(check, key, j, true);
    }
  }
}
