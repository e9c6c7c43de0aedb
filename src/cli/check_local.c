#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "dkimroll/check.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/operands.h"
#include "dkimroll/text.h"

static void say(struct check *check, enum finding_level level, const char *subject, char *text, const char *remedy) {
  CLEANUP_FREE char *owned = text;
  check_say(check, CHECK_LOCAL,
            &(struct finding){.level = level,
                              .code = ERROR_PERMISSION,
                              .subject = (char *)subject,
                              .text = owned ? owned : (char *)"out of memory",
                              .remedy = (char *)remedy});
}

int check_policy(struct check *check, struct error *error) {
  int result = session_read_policy(&check->session, error);
  if (result) {
    check_say_error(check, CHECK_LOCAL, "policy", NULL, error);
    return result;
  }
  const struct policy *policy = check->session.policy;
  say(check, FINDING_OK, "policy",
      text_format("%s: %zu domain%s, %zu publisher%s, %zu signer%s", policy->path, policy->domain_count,
                  policy->domain_count == 1 ? "" : "s", policy->publisher_count,
                  policy->publisher_count == 1 ? "" : "s", policy->signer_count, policy->signer_count == 1 ? "" : "s"),
      "");
  return 0;
}

/* ---- the store's directory ---- */

/* It is made by the first run: is there somebody who lets it? */
static void check_missing_directory(struct check *check, const char *directory) {
  CLEANUP_FREE char *parent = text_duplicate(directory);
  struct stat status;
  while (parent && strlen(parent) > 1 && stat(parent, &status) < 0) {
    char *slash = strrchr(parent, '/');
    slash[slash == parent] = '\0';
  }
  if (parent && access(parent, W_OK | X_OK) == 0)
    say(check, FINDING_OK, "state", text_format("%s will be made by the first run", directory), "");
  else
    say(check, FINDING_FAILED, "state",
        text_format("%s is missing and cannot be made in %s: %s", directory, parent ? parent : "?", strerror(errno)),
        "make it, with mode 0700 and for the user who runs dkimroll");
}

static void check_space(struct check *check, const char *directory) {
  struct statvfs space;
  if (statvfs(directory, &space) < 0) return;
  const uint64_t octets = (uint64_t)space.f_bavail * space.f_frsize;
  if (octets < CHECK_SPACE_LEAST)
    say(check, FINDING_WARNING, "state",
        text_format("only %llu MiB are free in %s", (unsigned long long)(octets >> 20), directory),
        "free some: what cannot be written down is not done");
}

/* The only proof that a file can be made is to make one. */
static void check_directory(struct check *check, const char *directory) {
  CLEANUP_FREE char *scratch = text_format("%s/.%s-XXXXXX", directory, CHECK_SELECTOR);
  struct stat status;
  CLEANUP_CLOSE int descriptor = scratch ? mkostemp(scratch, O_CLOEXEC) : -1;
  if (descriptor < 0) {
    say(check, FINDING_FAILED, "state", text_format("no file can be made in %s: %s", directory, strerror(errno)),
        "run as the user who owns it, and see that its file system is neither full nor mounted read-only");
    return;
  }
  unlink(scratch);
  say(check, FINDING_OK, "state", text_format("%s can be written to", directory), "");
  check_space(check, directory);
  if (stat(directory, &status) == 0 && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    say(check, FINDING_WARNING, "state",
        text_format("others may write to %s (mode %04o)", directory, status.st_mode & 07777), "give it mode 0700");
}

static void check_store(struct check *check) {
  struct error error = {0};
  struct store *store = NULL;
  const char *path = check->session.policy->state;
  int result = check->cli->wiring->open_store(path, true, &store, &error);
  if (result == ERROR_NOT_FOUND)
    say(check, FINDING_NOTE, "state", text_format("%s: nothing has run yet", path), "");
  else if (result)
    check_say_error(check, CHECK_LOCAL, "state", NULL, &error);
  else
    say(check, FINDING_OK, "state", text_format("%s can be read", path), "");
  store_close(store);
}

void check_state(struct check *check) {
  CLEANUP_FREE char *directory = text_duplicate(check->session.policy->state);
  struct stat status;
  if (!directory) {
    check_say_no_memory(check, CHECK_LOCAL, "state");
    return;
  }
  char *slash = strrchr(directory, '/');
  if (slash) slash[slash == directory] = '\0';
  if (stat(directory, &status) < 0 && errno == ENOENT) {
    check_missing_directory(check, directory);
    return;
  }
  check_directory(check, directory);
  check_store(check);
}

/* ---- which domains, and which keys sign ---- */

static int compare_name(const void *name, const void *domain) {
  return strcmp(name, ((const struct policy_domain *)domain)->name);
}

static int refuse_unknown(const struct policy *policy, const char *operand, struct error *error) {
  error_set(error, ERROR_NOT_FOUND, "%s is not in the policy %s", operand, policy->path);
  error_remedy(error, "write it under domains:, or name one that is there");
  for (size_t i = 0; i < policy->domain_count; i++) {
    const char *name = policy->domains[i].name;
    if (!text_nearest(operand, &name, 1)) continue;
    error_remedy(error, "did you mean %s?", name);
    break;
  }
  return ERROR_NOT_FOUND;
}

static int choose_operands(struct check *check, struct error *error) {
  const struct policy *policy = check->session.policy;
  const struct cli_arguments *arguments = check->cli->arguments;
  char name[DNS_NAME_TEXT_SIZE];
  for (size_t i = 0; i < arguments->operand_count; i++) {
    const struct policy_domain *domain = NULL;
    if (operand_domain(arguments->operands[i], name))
      domain = bsearch(name, policy->domains, policy->domain_count, sizeof *policy->domains, compare_name);
    if (!domain) return refuse_unknown(policy, arguments->operands[i], error);
    bool chosen = false;
    for (size_t j = 0; j < check->domain_count; j++) chosen |= check->domains[j] == domain;
    if (!chosen) check->domains[check->domain_count++] = domain;
  }
  return 0;
}

static int choose_domains(struct check *check, struct error *error) {
  const struct policy *policy = check->session.policy;
  const size_t operands = check->cli->arguments->operand_count;
  const size_t most = policy->domain_count < CHECK_DOMAINS_MAX ? policy->domain_count : CHECK_DOMAINS_MAX;
  check->domains = calloc((operands ? operands : most) + 1, sizeof(const struct policy_domain *));
  check->domain_count = 0;
  if (!check->domains) return error_set(error, ERROR_NO_MEMORY, "out of memory for the domains");
  if (operands) return choose_operands(check, error);
  for (size_t i = 0; i < most; i++) check->domains[check->domain_count++] = &policy->domains[i];
  if (most < policy->domain_count)
    say(check, FINDING_WARNING, "policy",
        text_format("only the first %zu of %zu domains are checked at once", most, policy->domain_count),
        "name others: dkimroll check DOMAIN...");
  return 0;
}

static size_t count_slots(const struct check *check) {
  size_t count = 0;
  for (size_t i = 0; i < check->domain_count; i++)
    count += check->session.policy->rules[check->domains[i]->rules].key_count;
  return count;
}

static int make_keys(struct check *check, struct error *error) {
  check->keys = calloc(count_slots(check) + 1, sizeof *check->keys);
  if (!check->keys) return error_set(error, ERROR_NO_MEMORY, "out of memory for the keys");
  for (size_t i = 0; i < check->domain_count; i++) {
    const struct policy_rules *rules = &check->session.policy->rules[check->domains[i]->rules];
    for (size_t j = 0; j < rules->key_count; j++)
      check->keys[check->key_count++] = (struct check_key){.domain = check->domains[i], .slot = rules->keys[j].slot};
  }
  return 0;
}

/* The rows of one domain meet the keys of it, which begin at first. */
struct key_search {
  struct check *check;
  size_t first;
};

static int keep_active(const struct policy *policy, const struct key *key, struct check_key *kept) {
  text_copy(kept->selector, sizeof kept->selector, key->selector);
  kept->adopted = key_is_adopted(key);
  kept->record = text_duplicate(key->record);
  if (key->record && !kept->record) return ERROR_NO_MEMORY;
  for (size_t i = 0; i < kept->domain->signer_count; i++)
    for (size_t j = 0; j < key->placement_count; j++) {
      if (!text_equal(key->placements[j].signer->name, policy->signers[kept->domain->signers[i]].name) ||
          kept->names[i])
        continue;
      kept->paths[i] = text_duplicate(key->placements[j].key_path);
      if (key->placements[j].key_path && !kept->paths[i]) return ERROR_NO_MEMORY;
      kept->names[i] = policy_signer_key_name(key->placements[j].signer, kept->domain->name, key->selector);
      if (!kept->names[i]) return ERROR_NO_MEMORY;
    }
  return 0;
}

static int find_active(void *context, const void *row) {
  const struct key_search *search = context;
  const struct lineage *lineage = row;
  struct check *check = search->check;
  int result = 0;
  for (size_t i = search->first; i < check->key_count && text_equal(check->keys[i].domain->name, lineage->domain);
       i++) {
    if (!text_equal(check->keys[i].slot, lineage->slot)) continue;
    for (size_t j = 0; j < lineage->key_count && !result; j++)
      if (lineage->keys[j].state == KEY_ACTIVE)
        result = keep_active(check->session.policy, &lineage->keys[j], &check->keys[i]);
  }
  return result;
}

static int read_keys(struct check *check, struct error *error) {
  struct store *store = check->session.store;
  int result = 0;
  for (size_t i = 0; i < check->key_count && !result; i++) {
    if (i > 0 && check->keys[i].domain == check->keys[i - 1].domain) continue;
    struct key_search search = {.check = check, .first = i};
    const struct store_filter filter = {.domain = check->keys[i].domain->name};
    result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, find_active, &search, error);
    if (result == ERROR_NO_MEMORY) error_set(error, ERROR_NO_MEMORY, "out of memory for the keys");
  }
  return result;
}

int check_select(struct check *check, struct error *error) {
  int result = choose_domains(check, error);
  if (!result) result = make_keys(check, error);
  if (result) return result;
  struct error unreadable = {0};
  /* Without one nothing has run yet. What check_state has told is told once. */
  if (session_open_for_reading(&check->session, &unreadable)) {
    if (unreadable.code != ERROR_NOT_FOUND) check_say_error(check, CHECK_LOCAL, "state", NULL, &unreadable);
    return 0;
  }
  result = read_keys(check, error);
  store_close(check->session.store);
  check->session.store = NULL;
  return result;
}

/* ---- the clock ---- */

void check_clock(struct check *check) {
  struct clock_reading reading;
  struct finding finding = {.subject = (char *)"clock", .code = ERROR_CONFIG};
  loop_now(check->session.backends.loop, &reading);
  if (reading.synchronised) {
    finding.text = (char *)"the kernel says that it is synchronised";
  } else if (check->attested) {
    finding.text = (char *)"a signed reply of a primary agrees with it";
  } else if (check->has_tsig) {
    finding.level = FINDING_WARNING;
    finding.text = (char *)"the kernel does not say that it is synchronised, and no signed reply of a primary came";
    finding.remedy =
        (char *)"run a time service (chrony, systemd-timesyncd); without one, a working TSIG key attests the clock";
  } else {
    finding.level = FINDING_FAILED;
    finding.text =
        (char *)"nothing attests it, and no key is switched, revoked or deleted by a clock that may be wrong";
    finding.remedy =
        (char *)"run a time service (chrony, systemd-timesyncd), or sign the updates: tsig-file of the publisher";
  }
  check_say(check, CHECK_CLOCK, &finding);
}
