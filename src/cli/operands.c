#include "dkimroll/operands.h"

#include <string.h>

#include "dkimroll/text.h"

bool operand_domain(const char *operand, char ret_domain[DNS_NAME_TEXT_SIZE]) {
  size_t length = strlen(operand);
  if (length > 1 && operand[length - 1] == '.') length--;
  if (length >= DNS_NAME_TEXT_SIZE) return false;
  memcpy(ret_domain, operand, length);
  ret_domain[length] = '\0';
  text_lower(ret_domain);
  return true;
}

struct nearest_search {
  const char *operand;
  char found[DNS_NAME_TEXT_SIZE];
};

static int look_nearest(void *context, const void *row) {
  struct nearest_search *search = context;
  const char *domain = ((const struct lineage *)row)->domain;
  if (!text_nearest(search->operand, &domain, 1)) return 0;
  text_copy(search->found, sizeof search->found, domain);
  return 1;
}

static int refuse_unknown(struct session *session, const char *operand, struct error *error) {
  static const struct store_filter all;
  struct nearest_search search = {.operand = operand};
  struct error unused;
  char shown[DNS_NAME_TEXT_SIZE + 8];
  const int found =
      session->store->ops->select(session->store, STORE_SELECT_LINEAGES, &all, look_nearest, &search, &unused);
  error_set(error, ERROR_NOT_FOUND, "%s is not managed by dkimroll",
            text_printable(operand, strlen(operand), shown, sizeof shown));
  if (found == 1)
    error_remedy(error, "did you mean %s? if not, add it to the policy and run `dkimroll run`", search.found);
  else
    error_remedy(error, "add it to the policy and run `dkimroll run`; `dkimroll status` lists the domains");
  return ERROR_NOT_FOUND;
}

/* Counts the rows on their way to the caller's row. */
struct passage {
  store_row *row;
  void *context;
  size_t count;
};

static int pass_row(void *context, const void *row) {
  struct passage *passage = context;
  passage->count++;
  return passage->row(passage->context, row);
}

static int each_of_operand(struct session *session, const char *operand, struct passage *passage, struct error *error) {
  char domain[DNS_NAME_TEXT_SIZE];
  const struct store_filter filter = {.domain = domain};
  int result = 0;
  passage->count = 0;
  if (operand_domain(operand, domain))
    result = session->store->ops->select(session->store, STORE_SELECT_LINEAGES, &filter, pass_row, passage, error);
  if (result) return result;
  return passage->count > 0 ? 0 : refuse_unknown(session, operand, error);
}

int operands_each_lineage(struct session *session, store_row *row, void *context, struct error *error) {
  static const struct store_filter all;
  const struct cli_arguments *arguments = session->cli->arguments;
  struct passage passage = {.row = row, .context = context};
  int result = 0;
  if (arguments->operand_count == 0)
    return session->store->ops->select(session->store, STORE_SELECT_LINEAGES, &all, pass_row, &passage, error);
  for (size_t i = 0; i < arguments->operand_count && !result; i++)
    result = each_of_operand(session, arguments->operands[i], &passage, error);
  return result;
}

static int see_row(void *context, const void *row) {
  (void)context;
  (void)row;
  return 0;
}

int operands_check(struct session *session, struct error *error) {
  return session->cli->arguments->operand_count ? operands_each_lineage(session, see_row, NULL, error) : 0;
}
