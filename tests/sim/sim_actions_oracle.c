/* What scenarios expect of the world, and the defects by which the oracle itself is tried. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/message.h"
#include "dkimroll/text.h"
#include "sim_actions.h"

/* What dkimroll must never do, done in its place, to show that the oracle sees it right beside what it excuses (tests/unit/test_sim_oracle.c). */
static bool do_defect(struct sim_call *call) {
  struct sim *sim = call->sim;
  size_t signer = 0, domain = 0;
  if (call->count == 3 && text_equal(call->words[1], "jobs")) {
    for (unsigned long i = strtoul(call->words[2], NULL, 10); i > 0; i--) sim_oracle_effort(sim);
    return true;
  }
  if (call->count == 3 && text_equal(call->words[1], "events")) {
    const struct event event = {.domain = (char *)"a.test", .kind = (char *)"recovered", .reason = (char *)"again"};
    for (unsigned long i = strtoul(call->words[2], NULL, 10); i > 0; i--) sim_oracle_event(sim, &event);
    return true;
  }
  if (call->count < 3 || !sim_call_domain(call, call->words[2], &domain)) return sim_call_fail(call, "defect sender-lost|record-lost|record-left|switch-unseen DOMAIN [SIGNER], defect update-deletes DOMAIN WHICH, defect jobs|events N");
  struct sim_zone *zone = sim_record_zone(sim, domain);
  const size_t i = sim_actions_record(sim, domain, sim_zone_at(zone, 0), "signing");
  if (text_equal(call->words[1], "sender-lost") && call->count == 4 && sim_call_number(call, call->words[3], "s", sim->signer_count, &signer))
    return sim_tables_drop_lines(sim, signer, "SigningTable", domain, false);
  if (text_equal(call->words[1], "record-lost") && i != SIZE_MAX) {
    struct sim_content *content = sim_zone_edit(zone);
    sim_content_remove(content, i);
    sim_zone_commit(sim, zone, content);
    return true;
  }
  if (text_equal(call->words[1], "update-deletes") && call->count == 4) {
    struct sim_content *content = sim_zone_edit(zone);
    const size_t meant = sim_actions_record(sim, domain, content, call->words[3]);
    if (meant != SIZE_MAX) sim_content_remove(content, meant);
    sim_oracle_update(sim, zone, sim_zone_at(zone, 0), content);
    sim_zone_commit(sim, zone, content);
    return true;
  }
  if (text_equal(call->words[1], "record-left")) {
    char owner[DNS_NAME_TEXT_SIZE];
    struct sim_content *content = sim_zone_edit(zone);
    sim_content_add(sim, content, sim_owner_name(sim, "left", sim->zones[domain].name, owner), DNS_TYPE_TXT, 3600, "v=DKIM1; k=ed25519; p=", SIM_RECORD_OURS);
    sim_zone_commit(sim, zone, content);
    return true;
  }
  if (text_equal(call->words[1], "switch-unseen")) {
    for (size_t n = 0; n < sim->name_count; n++) sim->names[n].has_signed = false;
    sim_mail_domain(sim, domain);
    return true;
  }
  return sim_call_fail(call, "there is no such defect, or nothing to do it to");
}

/* ---- expectations ---- */

struct tally {
  const char *word;
  size_t count;
};

static int tally_state(void *context, const void *row) {
  struct tally *tally = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++) tally->count += text_equal(key_state_name(lineage->keys[i].state), tally->word);
  return 0;
}

static int tally_event(void *context, const void *row) {
  struct tally *tally = context;
  tally->count += text_equal(((const struct event *)row)->kind, tally->word);
  return 0;
}

static bool expect_count(struct sim_call *call, enum store_select_kind kind, const char *domain, const char *word, const char *number) {
  struct store *store = sim_host_store(call->sim);
  struct tally tally = {.word = word};
  struct error error = {0};
  const struct store_filter filter = {.domain = domain};
  const bool least = number[0] == '>';
  char *end = NULL;
  const size_t wanted = strtoul(number + least, &end, 10);
  if (*end) return sim_call_fail(call, "that is no number");
  if (store && store->ops->select(store, kind, &filter, kind == STORE_SELECT_EVENTS ? tally_event : tally_state, &tally, &error))
    sim_violate(call->sim, "expectation", "%s", error.message);
  const bool right = least ? tally.count > wanted : tally.count == wanted;
  if (!right) sim_violate(call->sim, "expectation", "%s %s %s is not so: %zu", domain, word, number, tally.count);
  return true;
}

static bool do_expect(struct sim_call *call) {
  struct sim *sim = call->sim;
  char why[SIM_LINE];
  size_t domain = 0;
  if (call->count == 2 && text_equal(call->words[1], "well")) {
    const char *ill = sim_oracle_ill(sim, NULL, why, sizeof why);
    if (ill) sim_violate(sim, "expectation", "%s", ill);
    return true;
  }
  if (call->count < 3 || !sim_call_domain(call, call->words[1], &domain)) return sim_call_fail(call, "expect well, or expect DOMAIN well|ill|STATE N|event KIND N|signs newest|oldest");
  const bool well = text_equal(call->words[2], "well");
  if (call->count == 3 && (well || text_equal(call->words[2], "ill"))) {
    const char *ill = sim_oracle_ill(sim, call->words[1], why, sizeof why);
    if (well && ill) sim_violate(sim, "expectation", "%s", ill);
    if (!well && !ill) sim_violate(sim, "expectation", "%s is well", call->words[1]);
    return true;
  }
  if (call->count == 4 && text_equal(call->words[2], "signs")) {
    const size_t record = sim_actions_record(sim, domain, sim_zone_at(sim_record_zone(sim, domain), 0), call->words[3]);
    const char *const selector = sim->places[0][domain].selector;
    const char *const name = record == SIZE_MAX ? "" : sim_zone_at(sim_record_zone(sim, domain), 0)->records[record].name;
    if (!text_starts(name, selector) || name[strlen(selector)] != '.')
      sim_violate(sim, "expectation", "%s signs with %s and not with the %s, %s", call->words[1], selector, call->words[3], name);
    return true;
  }
  if (call->count == 5 && text_equal(call->words[2], "event")) return expect_count(call, STORE_SELECT_EVENTS, call->words[1], call->words[3], call->words[4]);
  if (call->count == 4) return expect_count(call, STORE_SELECT_LINEAGES, call->words[1], call->words[2], call->words[3]);
  return sim_call_fail(call, "expect DOMAIN well|ill|STATE N|event KIND N|signs newest|oldest");
}

const struct sim_row sim_actions_oracle[] = {
    {"defect", do_defect},
    {"expect", do_expect},
    {NULL, NULL},
};
