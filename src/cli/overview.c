#include "dkimroll/overview.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/engine_clock.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"

static int read_clock(struct overview *overview, struct store_clock *ret_stored, struct error *error) {
  struct store *store = overview->session->store;
  struct clock_reading reading;
  struct store_clock advanced;
  int64_t next;
  int result = store->ops->next_moment(store, &next, &overview->stamp, ret_stored, error);
  if (result) return result;
  clock_read(&reading);
  engine_clock_advance(ret_stored, &reading, &advanced, &overview->clock);
  overview->clock.skip_watch = true;
  return 0;
}

int overview_begin(struct overview *ret_overview, struct session *session, overview_callback *callback, void *context, struct error *error) {
  struct store_clock stored = {0};
  *ret_overview = (struct overview){.session = session, .callback = callback, .context = context, .next = TIME_UNSET};
  int result = read_clock(ret_overview, &stored, error);
  if (!result) result = session_look(session, &ret_overview->next, error);
  if (!result) result = metrics_new((size_t)ret_overview->stamp.metrics_domains, &ret_overview->clock, &ret_overview->metrics, error);
  return result;
}

void overview_release(struct overview *overview) {
  if (!overview) return;
  store_policy_stamp_release(&overview->stamp);
  findings_release(&overview->findings);
  metrics_free(overview->metrics);
  overview->metrics = NULL;
}

struct page {
  struct overview *overview;
  size_t count;
};

static int look_at_lineage(void *context, const void *row) {
  struct page *page = context;
  struct overview *overview = page->overview;
  const struct lineage *lineage = row;
  CLEANUP(findings_release) struct findings problems = {0};
  page->count++;
  status_find_problems(lineage, &overview->clock, &problems);
  for (size_t i = 0; i < problems.count; i++) findings_add(&overview->findings, &problems.items[i]);
  metrics_add_lineage(overview->metrics, lineage, problems.failed);
  if (overview->callback) overview->callback(overview->context, lineage, &problems);
  text_copy(overview->domain, sizeof overview->domain, lineage->domain);
  text_copy(overview->slot, sizeof overview->slot, lineage->slot);
  return 0;
}

int overview_page(struct overview *overview, bool *ret_more, struct error *error) {
  struct page page = {.overview = overview};
  struct store *store = overview->session->store;
  char domain[DNS_NAME_TEXT_SIZE], slot[SELECTOR_SIZE];
  text_copy(domain, sizeof domain, overview->domain);
  text_copy(slot, sizeof slot, overview->slot);
  const struct store_filter after = {.domain = domain, .text = slot, .limit = OVERVIEW_PAGE};
  int result = store->ops->select(store, STORE_SELECT_LINEAGES_AFTER, &after, look_at_lineage, &page, error);
  if (!result && overview->findings.no_memory) result = error_set(error, ERROR_NO_MEMORY, "out of memory for what is wrong");
  if (!result) *ret_more = page.count == OVERVIEW_PAGE;
  return result;
}

static int add_resource(void *context, const void *row) {
  metrics_add_resource(context, row);
  return 0;
}
static int add_publisher_clock(void *context, const void *row) {
  metrics_add_publisher_clock(context, row);
  return 0;
}
static int add_request(void *context, const void *row) {
  metrics_add_request(context, row);
  return 0;
}

static size_t count_problems(const struct findings *findings) {
  size_t count = findings->dropped;
  for (size_t i = 0; i < findings->count; i++) count += findings->items[i].level == FINDING_FAILED;
  return count;
}

int overview_finish(struct overview *overview, int64_t run_at, struct buffer *ret_text, struct error *error) {
  static const struct store_filter all;
  static const struct {
    enum store_select_kind kind;
    store_row *row;
  } rests[] = {{STORE_SELECT_RESOURCES, add_resource}, {STORE_SELECT_PUBLISHER_CLOCKS, add_publisher_clock}, {STORE_SELECT_REQUESTS, add_request}};
  struct store *store = overview->session->store;
  const struct metrics_facts facts = {.run_at = run_at,
                                      .compiled_at = overview->stamp.compiled_at,
                                      .policy_current = overview->next != TIME_UNSET,
                                      .next = overview->next == TIME_UNSET ? run_at : overview->next};
  int result = 0;
  for (size_t i = 0; i < ARRAY_SIZE(rests) && !result; i++)
    result = store->ops->select(store, rests[i].kind, &all, rests[i].row, overview->metrics, error);
  return result ? result : metrics_finish(overview->metrics, &facts, count_problems(&overview->findings), ret_text, error);
}

static void release_session(struct session *session) { session_release(session); }

/* Of all; printed at once. The store tells when something was last committed, not when somebody looked and found nothing to do. */
int cli_command_metrics(const struct cli *cli) {
  CLEANUP(release_session) struct session session = {.cli = cli};
  CLEANUP(overview_release) struct overview overview = {.session = NULL};
  CLEANUP(buffer_release) struct buffer text = {0};
  struct error error = {0};
  struct store_clock stored = {0};
  int64_t next;
  bool more = true;
  int result = session_open_for_reading(&session, &error);
  if (!result) result = session.store->ops->next_moment(session.store, &next, NULL, &stored, &error);
  if (!result) result = overview_begin(&overview, &session, NULL, NULL, &error);
  while (!result && more) result = overview_page(&overview, &more, &error);
  if (!result) result = overview_finish(&overview, stored.wall == TIME_UNSET ? 0 : stored.wall, &text, &error);
  if (result) return cli_report(cli, &error);
  fwrite(text.data, 1, text.size, cli->out);
  return EX_OK;
}
