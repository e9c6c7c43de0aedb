/* Mail that is signed all the time and verified at once, somewhere between, and as late as the window allows: the oracle of I1 and I2. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "sim.h"

/* One signature on its way to a receiver. */
struct letter {
  struct sim *sim;
  size_t signer;
  char domain[16], selector[SELECTOR_SIZE], public_key[64];
  int64_t signed_at, latest; /* latest: the end of its window as it was when this look was planned; 0: a look on the way */
};

/* When mail that was signed at that moment is verified at the latest, by the policy of now: who shortens a queue's lifetime shortens it for what is in the queue. */
static int64_t latest_of(const struct letter *letter) { return letter->signed_at + sim_policy_window(letter->sim); }

/* Scripts sign at once with what caches may deny for a day yet, and a secondary for three. */
static bool is_young(struct sim *sim, const char *owner) {
  enum { SETTLED = 4 };
  const struct sim_by_hand *key = sim_by_hand_find(sim, owner);
  return key && sim_loop_now(sim->clock) < key->made_at + SETTLED * SIM_DAY;
}

/* Also records of keys that sign no more are put back, while their mail may be verified. Import gives up those that it does not find. */
static bool is_healed_by_now(struct sim *sim, const char *owner) {
  enum { SLOWEST = 5 }; /* a parked lineage's pause, a heal's, and a day of caches: README.md */
  return sim->is_calm && sim_loop_now(sim->clock) > sim->end - sim->calm + SLOWEST * SIM_DAY && !sim->has_imported && !sim_by_hand_find(sim, owner);
}

static void verify(void *context) {
  struct letter *letter = context;
  struct sim *sim = letter->sim;
  char name[DNS_NAME_TEXT_SIZE], why[SIM_LINE];
  const int64_t now = sim_loop_now(sim->clock), latest = latest_of(letter);
  sim_owner_name(sim, letter->selector, letter->domain, name);
  if (now > latest) {
    free(letter);
    return;
  }
  /* Deferred: the receiver tries again until its resolver answers or the window is over. */
  if (sim->receivers_defer_until > now && now < latest) {
    sim_loop_at(sim->clock, time_min(sim->receivers_defer_until, latest), verify, letter, true);
    return;
  }
  enum sim_cached cached = sim_zone_judge(sim, name, letter->public_key, why, sizeof why);
  if (cached == SIM_CACHED_EXCUSED && is_healed_by_now(sim, name)) {
    snprintf(why, sizeof why, "what somebody did to %s was not put right, though nothing has failed for days", name);
    cached = SIM_CACHED_BAD;
  }
  if (cached == SIM_CACHED_BAD && sim_emergency_waives(sim, letter->selector, letter->domain, false)) cached = SIM_CACHED_EXCUSED;
  if (cached == SIM_CACHED_BAD && is_young(sim, name)) cached = SIM_CACHED_EXCUSED;
  sim->result->counts.verified++;
  sim->result->counts.excused += cached == SIM_CACHED_EXCUSED;
  if (cached == SIM_CACHED_BAD)
    sim_violate(sim, "I2", "mail of %s signed by s%zu with %s %lld s ago does not verify: %s", letter->domain, letter->signer + 1, letter->selector,
                (long long)(now - letter->signed_at) / 1000, why);
  if (letter->latest && latest > letter->latest) { /* the window has grown meanwhile */
    letter->latest = latest;
    sim_loop_at(sim->clock, latest, verify, letter, true);
    return;
  }
  free(letter);
}

static void send_letter(const struct letter *model, int64_t moment, bool last) {
  struct letter *letter = malloc(sizeof *letter);
  if (!letter) abort();
  *letter = *model;
  letter->latest = last ? moment : 0;
  sim_loop_at(model->sim->clock, moment, verify, letter, true);
}

/* Lines that somebody dropped are an excuse for connections that began without them, and for no other. */
static bool is_excused(const struct sim_mail_place *place, int64_t opened) {
  return place->tampered_at && opened >= place->tampered_at && (!place->mended_at || opened < place->mended_at);
}

static void look_for_mending(struct sim *sim, size_t signer, const char *domain, struct sim_mail_place *place) {
  const int64_t now = sim_loop_now(sim->clock);
  if (!place->tampered_at) return;
  const bool whole = sim_filter_is_whole(sim, signer, domain);
  if (!place->mended_at && whole) place->mended_at = now;
  /* A switch that could not be proved is taken back, to what there was: nothing. */
  if (place->mended_at && !whole && now - place->mended_at < ENGINE_SIGN_SECONDS * SIM_SECOND) place->mended_at = 0;
  if (place->mended_at && now - place->mended_at > SIM_SESSION_LONGEST) place->tampered_at = place->mended_at = 0;
}

static void sign_one(struct sim *sim, size_t signer, size_t domain) {
  struct sim_mail_place *place = &sim->places[signer][domain];
  struct letter letter = {.sim = sim, .signer = signer, .signed_at = sim_loop_now(sim->clock)};
  struct sim_signature signature = {0};
  char owner[DNS_NAME_TEXT_SIZE];
  snprintf(letter.domain, sizeof letter.domain, "%c.test", (char)('a' + domain));
  look_for_mending(sim, signer, letter.domain, place);
  const enum sim_signing signing = sim_filter_sign(sim, signer, letter.domain, &signature);
  if (signing == SIM_MAIL_DOWN) return;
  sim->result->counts.mails++;
  if (signing != SIM_MAIL_SIGNED) {
    /* A connection that was open before the first signature knows nothing of it. A first activation that is not proved is taken back: until one operation's time and the sessions
     * of then are over, the sender is one that was never signed for. */
    const int64_t session = sim_policy_seconds(sim, "drain") * 1000;
    const bool young = letter.signed_at - place->first_at < session;
    if (signing == SIM_MAIL_UNSIGNED && sim_emergency_waives(sim, place->selector, letter.domain, true)) place->has_signed = false;
    const bool settled = place->last_at - place->first_at >= ENGINE_SIGN_SECONDS * SIM_SECOND + session;
    if (place->has_signed && !young && settled && !is_excused(place, signature.opened))
      sim_violate(sim, "I1", "mail of %s is %s by s%zu, which has signed with %s before", letter.domain,
                  signing == SIM_MAIL_UNSIGNED ? "not signed" : "tempfailed", signer + 1, place->selector);
    if (!young && !settled) place->has_signed = false;
    return;
  }
  if (!text_equal(place->selector, signature.selector)) {
    sim_trace(sim, "s%zu signs mail of %s with %s", signer + 1, letter.domain, signature.selector);
    sim->result->counts.rotations += place->has_signed;
    text_copy(place->selector, sizeof place->selector, signature.selector);
    place->selector_since = letter.signed_at;
  }
  if (!place->has_signed) place->first_at = letter.signed_at;
  place->has_signed = true;
  place->last_at = letter.signed_at;
  sim_oracle_signature(sim, sim_owner_name(sim, signature.selector, letter.domain, owner), signature.public_key);
  text_copy(letter.selector, sizeof letter.selector, signature.selector);
  text_copy(letter.public_key, sizeof letter.public_key, signature.public_key);
  const int64_t window = sim_policy_window(sim);
  send_letter(&letter, letter.signed_at + SIM_RANDOM(sim, 60000), false);
  send_letter(&letter, letter.signed_at + (int64_t)SIM_RANDOM(sim, window / 1000) * 1000, false);
  send_letter(&letter, letter.signed_at + window, true);
}

void sim_mail_domain(struct sim *sim, size_t domain) {
  for (size_t s = 0; s < sim->signer_count; s++)
    if (sim->domain_signers[domain] >> s & 1) sign_one(sim, s, domain);
}

void sim_mail_pulse(struct sim *sim) {
  for (size_t i = 0; i < sim->domain_count; i++) sim_mail_domain(sim, i);
}

static void mail_later(void *context) {
  enum { BETWEEN = 40 * 60 };
  struct sim *sim = context;
  sim_mail_pulse(sim);
  sim_loop_at(sim->clock, sim_loop_now(sim->clock) + (1 + SIM_RANDOM(sim, 2 * BETWEEN)) * SIM_SECOND, mail_later, sim, false);
}

void sim_mail_begin(struct sim *sim) { mail_later(sim); }
