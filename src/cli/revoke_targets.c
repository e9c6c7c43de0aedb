#include <stdlib.h>
#include <string.h>

#include "dkimroll/operands.h"
#include "dkimroll/revoke.h"
#include "dkimroll/text.h"

#define BELOW "._domainkey."

void revoke_release(struct revoke *revoke) {
  free(revoke->targets);
  revoke->targets = NULL;
  revoke->count = 0;
}

static bool can_restart(const struct lineage *lineage) {
  const char *target;
  for (size_t i = 0; i < lineage->signer_count; i++)
    if (policy_signer_restart(lineage->signers[i], &target) == RELOAD_NONE) return false;
  return true;
}

static bool is_target(const struct revoke *revoke, const char *domain, const char *selector) {
  for (size_t i = 0; i < revoke->count; i++)
    if (text_equal(revoke->targets[i].domain, domain) && text_equal_nocase(revoke->targets[i].selector, selector)) return true;
  return false;
}

static int add_target(struct revoke *revoke, const struct lineage *lineage, size_t index) {
  const struct key *key = &lineage->keys[index];
  const struct policy_rules *rules = lineage->rules;
  const struct compromise wish = {.selector = key->selector, .now = revoke->arguments->now};
  /* With all of them each comes once, and there may be many. */
  if (!revoke->arguments->all_active && is_target(revoke, lineage->domain, key->selector)) return 0;
  struct revoke_target *targets = reallocarray(revoke->targets, revoke->count + 1, sizeof *targets);
  if (!targets) return ERROR_NO_MEMORY;
  revoke->targets = targets;
  struct revoke_target *target = &targets[revoke->count++];
  *target = (struct revoke_target){.state = key_state_name(key->state),
                                   .known = !key_is_meant(key, &wish),
                                   .held = revoke_is_held(lineage, key, revoke->arguments, revoke->now),
                                   .lingers = key->state == KEY_ACTIVE && !can_restart(lineage),
                                   .drain = rules->drain,
                                   .revoked = key->state >= KEY_REVOKED};
  target->confirmed = target->revoked && key->right_at != TIME_UNSET;
  const int64_t window = time_add(time_add(rules->queue_lifetime, rules->queue_backoff), rules->verify_window);
  target->signed_since = key->state >= KEY_ACTIVE ? time_max(key->active_at, revoke->now - window) : TIME_NEVER;
  text_copy(target->domain, sizeof target->domain, lineage->domain);
  text_copy(target->selector, sizeof target->selector, key->selector);
  revoke_foretell(lineage, index, revoke->arguments, revoke->now, target->what);
  return 0;
}

static int compare(const void *one, const void *other) {
  const struct revoke_target *const a = one, *const b = other;
  const int order = strcmp(a->domain, b->domain);
  return order ? order : strcmp(a->selector, b->selector);
}

struct revoke_target *revoke_target_of(const struct revoke *revoke, const char *domain, const char *selector) {
  struct revoke_target wanted = {.held = false};
  text_copy(wanted.domain, sizeof wanted.domain, domain);
  text_copy(wanted.selector, sizeof wanted.selector, selector);
  return revoke->count > 0 ? bsearch(&wanted, revoke->targets, revoke->count, sizeof wanted, compare) : NULL;
}

static int compare_domain(const void *one, const void *other) {
  const struct revoke_target *const a = one, *const b = other;
  return strcmp(a->domain, b->domain);
}

bool revoke_has_domain(const struct revoke *revoke, const char *domain) {
  struct revoke_target wanted = {.held = false};
  text_copy(wanted.domain, sizeof wanted.domain, domain);
  return revoke->count > 0 && bsearch(&wanted, revoke->targets, revoke->count, sizeof wanted, compare_domain) != NULL;
}

static void put_in_order(struct revoke *revoke) {
  if (revoke->count > 0) qsort(revoke->targets, revoke->count, sizeof *revoke->targets, compare);
  for (size_t i = 0; i < revoke->count; i++) {
    const struct revoke_target *target = &revoke->targets[i];
    revoke->domain_count += i == 0 || !text_equal(target[-1].domain, target->domain);
    revoke->open += !target->revoked && !target->held;
    revoke->unconfirmed += !target->confirmed && !target->held;
  }
}

/* ---- names ---- */

/* One operand, on its way through all lineages. */
struct search {
  struct revoke *revoke;
  char domain[DNS_NAME_TEXT_SIZE];   /* the operand as a domain; of SELECTOR._domainkey.DOMAIN what is behind */
  char selector[DNS_NAME_TEXT_SIZE]; /* and as a selector */
  bool whole;                        /* it was a whole name */
  bool takes;                        /* second pass: what was found is taken */
  size_t domains, keys;              /* found */
  char unmanaged_domain[DNS_NAME_TEXT_SIZE]; /* "" none */
  char candidates[REVOKE_CANDIDATES_MAX][2 * DNS_NAME_TEXT_SIZE];
};

static void note_candidate(struct search *search, const struct lineage *lineage, const struct key *key) {
  const size_t count = search->domains + search->keys;
  if (count >= REVOKE_CANDIDATES_MAX) return;
  if (key)
    snprintf(search->candidates[count], sizeof search->candidates[count], "%s" BELOW "%s", key->selector, lineage->domain);
  else
    snprintf(search->candidates[count], sizeof search->candidates[count], "%s", lineage->domain);
}

static int take_keys(struct search *search, const struct lineage *lineage, bool by_domain) {
  int result = 0;
  for (size_t i = 0; i < lineage->key_count && !result; i++) {
    const struct key *key = &lineage->keys[i];
    const bool living = key->state < KEY_REVOKED;
    const bool named = by_domain ? key->state == KEY_ACTIVE : text_equal_nocase(key->selector, search->selector);
    const bool whole_host = search->revoke->arguments->host_compromised && living;
    if (named || whole_host) result = add_target(search->revoke, lineage, i);
  }
  return result;
}

static int look(void *context, const void *row) {
  struct search *search = context;
  const struct lineage *lineage = row;
  const bool domain = text_equal(lineage->domain, search->domain);
  bool key_found = false;
  for (size_t i = 0; i < lineage->key_count && (!search->whole || domain); i++)
    key_found |= text_equal_nocase(lineage->keys[i].selector, search->selector);
  /* In the second pass the domain may be that of the key that was named, and then it was not named itself. */
  const bool domain_found = domain && !search->whole && (!search->takes || search->domains > 0);
  if (!domain_found && !key_found) {
    const bool rest_of_host = search->takes && search->revoke->arguments->host_compromised && domain;
    return rest_of_host ? take_keys(search, lineage, true) : 0;
  }
  if (!lineage->managed) text_copy(search->unmanaged_domain, sizeof search->unmanaged_domain, lineage->domain);
  if (search->takes) return take_keys(search, lineage, domain_found);
  for (size_t i = 0; i < lineage->key_count && key_found; i++) {
    if (!text_equal_nocase(lineage->keys[i].selector, search->selector)) continue;
    note_candidate(search, lineage, &lineage->keys[i]);
    search->keys++;
  }
  if (!domain_found) return 0;
  if (search->domains == 0) note_candidate(search, lineage, NULL);
  search->domains = 1;
  return 0;
}

static int split_operand(const char *operand, struct search *search) {
  const char *below = strstr(operand, BELOW);
  const size_t size = below ? (size_t)(below - operand) : strlen(operand);
  search->whole = below != NULL;
  if (size >= sizeof search->selector || !operand_domain(below ? below + strlen(BELOW) : operand, search->domain)) return ERROR_INVALID;
  memcpy(search->selector, operand, size);
  search->selector[size] = '\0';
  return 0;
}

static int refuse_ambiguous(const char *operand, const struct search *search, struct error *error) {
  const size_t found = search->domains + search->keys;
  char list[512] = "";
  size_t used = 0;
  for (size_t i = 0; i < found && i < REVOKE_CANDIDATES_MAX && used < sizeof list - 1; i++)
    used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", search->candidates[i]);
  error_set(error, ERROR_CONFLICT, "%s could mean %zu keys or domains; nothing was done", operand, found);
  return error_remedy(error, "name one of them in full: %s%s", list, found > REVOKE_CANDIDATES_MAX ? ", ..." : "");
}

static int refuse_nothing(const char *operand, struct error *error) {
  error_set(error, ERROR_NOT_FOUND, "%s is neither a domain nor the selector of a living key", operand);
  return error_remedy(error, "`dkimroll status` lists domains and selectors; a key is also named as SELECTOR" BELOW "DOMAIN");
}

static int find_operand(struct revoke *revoke, const char *operand, struct error *error) {
  struct search search = {.revoke = revoke};
  struct store *store = revoke->session->store;
  const size_t before = revoke->count;
  if (split_operand(operand, &search)) return refuse_nothing(operand, error);
  const struct store_filter all = {0}, one = {.domain = search.domain};
  int result = store->ops->select(store, STORE_SELECT_LINEAGES, search.whole ? &one : &all, look, &search, error);
  if (result) return result;
  if (search.domains + search.keys == 0) return refuse_nothing(operand, error);
  if (search.domains + search.keys > 1) return refuse_ambiguous(operand, &search, error);
  if (search.unmanaged_domain[0]) {
    error_set(error, ERROR_CONFLICT, "%s is not in the policy any more, so nothing of it is changed", search.unmanaged_domain);
    return error_remedy(error, "put it back into the policy, and revoke again");
  }
  search.takes = true;
  /* All keys of the host: of the domain that the key is of. */
  if (!search.domains && !search.whole) text_copy(search.domain, sizeof search.domain, strstr(search.candidates[0], BELOW) + strlen(BELOW));
  result = store->ops->select(store, STORE_SELECT_LINEAGES, &(struct store_filter){.domain = search.domain}, look, &search, error);
  if (result == ERROR_NO_MEMORY) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  if (result || revoke->count > before || is_target(revoke, search.domain, search.selector)) return result;
  error_set(error, ERROR_NOT_FOUND, "%s has no active key", operand);
  return error_remedy(error, "name the key that is meant: `dkimroll status %s` lists them", search.domain);
}

static int look_active(void *context, const void *row) {
  struct revoke *revoke = context;
  const struct lineage *lineage = row;
  struct search search = {.revoke = revoke};
  if (lineage->managed) return take_keys(&search, lineage, true);
  bool signs = false;
  for (size_t i = 0; i < lineage->key_count; i++) signs |= lineage->keys[i].state == KEY_ACTIVE;
  if (!signs) return 0;
  if (revoke->left_out < REVOKE_CANDIDATES_MAX) text_copy(revoke->left_out_names[revoke->left_out], DNS_NAME_TEXT_SIZE, lineage->domain);
  revoke->left_out++;
  return 0;
}

int revoke_find(struct revoke *revoke, struct error *error) {
  const struct cli_arguments *arguments = revoke->arguments;
  struct store *store = revoke->session->store;
  int result = 0;
  for (size_t i = 0; i < arguments->operand_count && !result; i++) result = find_operand(revoke, arguments->operands[i], error);
  if (result || !arguments->all_active) {
    put_in_order(revoke);
    return result;
  }
  result = store->ops->select(store, STORE_SELECT_LINEAGES, &(struct store_filter){0}, look_active, revoke, error);
  if (result == ERROR_NO_MEMORY) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  put_in_order(revoke);
  if (result || revoke->count > 0) return result;
  return error_set(error, ERROR_NOT_FOUND, "no domain of the policy has an active key");
}
