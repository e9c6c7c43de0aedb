#include "dkimroll/opendkim.h"

#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

static struct signer_opendkim *opendkim_of(struct signer *signer) {
  return (struct signer_opendkim *)signer;
}

static int opendkim_activate(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                             signer_done *done, void *context, struct signer_operation **ret_operation,
                             struct error *error) {
  return opendkim_operation_new(opendkim_of(signer), items, count, deadline, done, context, opendkim_activate_start,
                                ret_operation, error);
}

static int opendkim_withdraw(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                             signer_done *done, void *context, struct signer_operation **ret_operation,
                             struct error *error) {
  return opendkim_operation_new(opendkim_of(signer), items, count, deadline, done, context, opendkim_withdraw_start,
                                ret_operation, error);
}

static int opendkim_prove(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                          signer_done *done, void *context, struct signer_operation **ret_operation,
                          struct error *error) {
  return opendkim_operation_new(opendkim_of(signer), items, count, deadline, done, context, opendkim_prove_start,
                                ret_operation, error);
}

static int opendkim_check(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                          signer_done *done, void *context, struct signer_operation **ret_operation,
                          struct error *error) {
  return opendkim_operation_new(opendkim_of(signer), items, count, deadline, done, context, opendkim_check_start,
                                ret_operation, error);
}

static int opendkim_look(struct signer *signer, const char *known_state, int64_t deadline, signer_looked *done,
                         void *context, struct signer_operation **ret_operation, struct error *error) {
  struct signer_operation *operation = NULL;
  int result = opendkim_operation_new(opendkim_of(signer), NULL, 0, deadline, NULL, context, opendkim_look_start,
                                      &operation, error);
  if (result < 0) return result;
  operation->looked = done;
  text_copy(operation->known_state, sizeof(operation->known_state), known_state);
  *ret_operation = operation;
  return 0;
}

static void opendkim_cancel(struct signer *signer, struct signer_operation *operation) {
  (void)signer;
  opendkim_operation_free(operation);
}

static void opendkim_destroy(struct signer *signer) {
  struct signer_opendkim *opendkim = opendkim_of(signer);
  while (opendkim->operations) opendkim_operation_free(opendkim->operations);
  free(opendkim);
}

static const struct signer_ops opendkim_ops = {.activate = opendkim_activate,
                                               .withdraw = opendkim_withdraw,
                                               .prove = opendkim_prove,
                                               .check = opendkim_check,
                                               .look = opendkim_look,
                                               .cancel = opendkim_cancel,
                                               .destroy = opendkim_destroy};

int signer_opendkim_new(struct connector *connector, struct keeper *keeper, struct entropy *entropy,
                        const struct policy_signer *policy, struct signer **ret_signer, struct error *error) {
  struct sockaddr_storage address;
  socklen_t size = 0;
  if (!policy->milter) {
    error_set(error, ERROR_CONFIG, "signer %s has no milter, so nothing that it does can be proved", policy->name);
    error_remedy(error, "add milter: with the Socket of opendkim.conf");
    return ERROR_CONFIG;
  }
  int result = milter_parse_address(policy->milter, &address, &size, error);
  if (result < 0) {
    error_context(error, "signer %s", policy->name);
    return result;
  }
  struct signer_opendkim *opendkim = calloc(1, sizeof(*opendkim));
  if (!opendkim) return error_set(error, ERROR_NO_MEMORY, "signer %s: out of memory", policy->name);
  *opendkim = (struct signer_opendkim){.signer = {.ops = &opendkim_ops},
                                       .connector = connector,
                                       .loop = connector->loop,
                                       .keeper = keeper,
                                       .entropy = entropy,
                                       .policy = policy};
  *ret_signer = &opendkim->signer;
  return 0;
}
