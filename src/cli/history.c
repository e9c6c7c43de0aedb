#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/json.h"
#include "dkimroll/operands.h"
#include "dkimroll/text.h"

struct history {
  const struct cli *cli;
  struct session session;
  char (*domains)[DNS_NAME_TEXT_SIZE]; /* the operands, sorted */
  size_t domain_count;
};

static void release_history(struct history *history) {
  free(history->domains);
  session_release(&history->session);
}

static int compare_domains(const void *a, const void *b) {
  return strcmp(a, b);
}

static bool is_wanted(const struct history *history, const struct event *event) {
  if (history->domain_count == 0) return true;
  char domain[DNS_NAME_TEXT_SIZE];
  if (!event->domain || !text_copy(domain, sizeof domain, event->domain)) return false;
  return bsearch(domain, history->domains, history->domain_count, sizeof history->domains[0], compare_domains) != NULL;
}

/* One object a line: a log has no end, and so it needs no closing bracket. */
static void write_json(FILE *out, const struct event *event) {
  struct json json = {.out = out};
  json_open(&json, NULL, '{');
  json_number(&json, "number", event->id);
  json_moment(&json, "at", event->at);
  json_text(&json, "domain", event->domain && event->domain[0] ? event->domain : NULL);
  json_text(&json, "key", event->slot && event->slot[0] ? event->slot : NULL);
  json_text(&json, "selector", event->selector);
  json_text(&json, "kind", event->kind);
  json_text(&json, "from", event->from);
  json_text(&json, "to", event->to);
  json_text(&json, "reason", event->reason);
  json_close(&json, '}');
  fputc('\n', out);
}

static int show_event(void *context, const void *row) {
  const struct history *history = context;
  const struct event *event = row;
  FILE *out = history->cli->out;
  if (!is_wanted(history, event)) return 0;
  if (history->cli->arguments->json)
    write_json(out, event);
  else
    event_print(out, event);
  return ferror(out); /* a reader that went away */
}

static int see_row(void *context, const void *row) {
  (void)row;
  *(bool *)context = true;
  return 1;
}

/* A domain that was forgotten still has its history. */
static int check_operand(struct history *history, const char *operand, const char *domain, struct error *error) {
  struct store *store = history->session.store;
  const struct store_filter filter = {.domain = domain, .limit = 1};
  bool seen = false;
  int result = store->ops->select(store, STORE_SELECT_EVENTS, &filter, see_row, &seen, error);
  if (result >= 0 && !seen) result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, see_row, &seen, error);
  if (result < 0 || seen) return result < 0 ? result : 0;
  error_set(error, ERROR_NOT_FOUND, "nothing ever happened to %s", operand);
  return error_remedy(error, "`dkimroll status` lists the domains; `dkimroll history` without an operand tells of all");
}

static int take_operands(struct history *history, struct error *error) {
  const struct cli_arguments *arguments = history->cli->arguments;
  int result = 0;
  history->domains = calloc(arguments->operand_count + 1, sizeof history->domains[0]);
  if (!history->domains) return error_set(error, ERROR_NO_MEMORY, "out of memory for the domains");
  for (size_t i = 0; i < arguments->operand_count && !result; i++) {
    char *domain = history->domains[history->domain_count++];
    if (operand_domain(arguments->operands[i], domain))
      result = check_operand(history, arguments->operands[i], domain, error);
    else
      result = error_set(error, ERROR_INVALID, "%.64s... is too long for a domain", arguments->operands[i]);
  }
  qsort(history->domains, history->domain_count, sizeof history->domains[0], compare_domains);
  return result;
}

static int show(struct history *history, struct error *error) {
  struct store *store = history->session.store;
  /* The events of one domain have an index; those of several are picked from all, in the order in which they happened. */
  const struct store_filter filter = {.domain = history->domain_count == 1 ? history->domains[0] : NULL};
  return store->ops->select(store, STORE_SELECT_EVENTS, &filter, show_event, history, error);
}

int cli_command_history(const struct cli *cli) {
  CLEANUP(release_history) struct history history = {.cli = cli, .session = {.cli = cli}};
  struct error error = {0};
  int result = session_open_for_reading(&history.session, &error);
  if (!result) result = take_operands(&history, &error);
  if (!result) result = show(&history, &error);
  return result < 0 ? cli_report(cli, &error) : EX_OK;
}
