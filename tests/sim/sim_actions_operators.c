/* What operators do: they change the policy, ask for holds, rotations and the end of keys, import, and start runs. */
#include <string.h>

#include "dkimroll/text.h"
#include "sim_actions.h"

static bool do_policy(struct sim_call *call) {
  if (call->count != 3 || !sim_policy_set(call->sim, call->words[1], call->words[2])) return sim_call_fail(call, "policy KEY VALUE, with a key of README.md");
  sim_policy_write(call->sim);
  sim_call_count(call, "policy");
  sim_loop_interrupt(call->sim->clock);
  return true;
}

static bool do_domain(struct sim_call *call) {
  struct sim *sim = call->sim;
  size_t domain = 0;
  if (call->count < 3 || !sim_call_domain(call, call->words[1], &domain)) return sim_call_fail(call, "domain DOMAIN joins|leaves|signers LIST");
  if (call->count == 4 && text_equal(call->words[2], "signers")) {
    unsigned bits = 0;
    for (const char *c = call->words[3]; *c; c++)
      if (*c >= '1' && (size_t)(*c - '1') < sim->signer_count) bits |= 1u << (*c - '1');
    if (!bits) return sim_call_fail(call, "at least one signer: 1, 2 or 1,2");
    sim->domain_signers[domain] = bits;
    /* Whoever gives the domain back to a signer that it was taken from sends mail there at his own risk until the key is there again. */
    for (size_t i = 0; i < sim->signer_count; i++)
      if (!(bits >> i & 1)) sim->places[i][domain].has_signed = false;
  } else if (text_equal(call->words[2], "joins") || text_equal(call->words[2], "leaves")) {
    sim->present[domain] = text_equal(call->words[2], "joins");
  } else {
    return sim_call_fail(call, "domain DOMAIN joins|leaves|signers LIST");
  }
  sim_policy_write(sim);
  sim_call_count(call, "domain");
  sim_loop_interrupt(sim->clock);
  return true;
}

static bool request(struct sim_call *call, enum store_request_kind kind, const char *fault) {
  size_t domain = 0;
  int64_t duration = 0, until = TIME_NEVER;
  if (call->count < 2 || !sim_call_domain(call, call->words[1], &domain)) return false;
  if (call->count == 3 && sim_call_duration(call, call->words[2], &duration)) until = sim_loop_wall(call->sim->clock) + duration / 1000;
  sim_host_request(call->sim, kind, call->words[1], until, text_equal(call->words[0], "hold-activation") ? HOLD_ACTIVATION : HOLD_ALL);
  sim_call_count(call, fault);
  sim_loop_interrupt(call->sim->clock);
  return true;
}
static bool do_hold(struct sim_call *call) { return request(call, REQUEST_HOLD, "hold"); }
static bool do_hold_activation(struct sim_call *call) { return request(call, REQUEST_HOLD, "hold-activation"); }
static bool do_release(struct sim_call *call) { return request(call, REQUEST_RELEASE, "hold"); }
static bool do_rotate(struct sim_call *call) { return request(call, REQUEST_ROTATE, "rotate"); }
static bool do_forget(struct sim_call *call) { return request(call, REQUEST_FORGET, "forget"); }

/* The operator names a key by what she sees: in the mail, or in DNS. */
static bool do_revoke(struct sim_call *call) {
  struct sim *sim = call->sim;
  char selector[DNS_NAME_TEXT_SIZE];
  size_t domain = 0;
  unsigned options = 0;
  if (call->count < 3 || !sim_call_domain(call, call->words[1], &domain)) return sim_call_fail(call, "revoke DOMAIN signing|newest|oldest [host] [now]");
  for (size_t i = 3; i < call->count; i++) options |= text_equal(call->words[i], "host") ? REQUEST_WHOLE_HOST : text_equal(call->words[i], "now") ? REQUEST_NOW : 0;
  const struct sim_content *content = sim_zone_at(sim_record_zone(sim, domain), 0);
  const size_t record = sim_actions_record(sim, domain, content, call->words[2]);
  if (record == SIZE_MAX) return true;
  text_copy(selector, sizeof selector, content->records[record].name);
  selector[strcspn(selector, ".")] = '\0';
  sim_trace(sim, "somebody has the key %s of %s", selector, call->words[1]);
  sim_emergency_ask(sim, domain, selector, options);
  sim_call_count(call, "revoke");
  sim_loop_interrupt(sim->clock);
  return true;
}

static bool do_import(struct sim_call *call) {
  int64_t delay = 0;
  if (call->count > 2) return sim_call_fail(call, "import [DELAY]");
  sim_call_count(call, "import");
  if (call->count == 2) {
    if (!sim_call_duration(call, call->words[1], &delay)) return false;
    sim_import_later(call->sim, delay);
    return true;
  }
  const int status = sim_import(call->sim);
  if (status > 0) sim_violate(call->sim, "import", "it ended with %d", status);
  return status >= 0 || sim_call_fail(call, "a run is at work");
}

static bool do_how_to(struct sim_call *call) {
  size_t domain = 0;
  if (call->count != 3 || !sim_call_domain(call, call->words[1], &domain)) return sim_call_fail(call, "how-to DOMAIN SELECTOR");
  sim_call_count(call, "how-to");
  sim_how_to(call->sim, domain, call->words[2]);
  return true;
}

static bool do_run(struct sim_call *call) {
  call->sim->dirty = true;
  sim_loop_interrupt(call->sim->clock);
  return true;
}

const struct sim_row sim_actions_operators[] = {
    {"policy", do_policy},
    {"domain", do_domain},
    {"hold", do_hold},
    {"hold-activation", do_hold_activation},
    {"release", do_release},
    {"rotate", do_rotate},
    {"forget", do_forget},
    {"revoke", do_revoke},
    {"import", do_import},
    {"how-to", do_how_to},
    {"run", do_run},
    {NULL, NULL},
};
