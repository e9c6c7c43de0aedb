#include "dkimroll/signer.h"

int signer_activate(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                    signer_done *done, void *context, struct signer_operation **ret_operation, struct error *error) {
  return signer->ops->activate(signer, items, count, deadline, done, context, ret_operation, error);
}

int signer_withdraw(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                    signer_done *done, void *context, struct signer_operation **ret_operation, struct error *error) {
  return signer->ops->withdraw(signer, items, count, deadline, done, context, ret_operation, error);
}

int signer_prove(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                 signer_done *done, void *context, struct signer_operation **ret_operation, struct error *error) {
  return signer->ops->prove(signer, items, count, deadline, done, context, ret_operation, error);
}

int signer_check(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                 signer_done *done, void *context, struct signer_operation **ret_operation, struct error *error) {
  return signer->ops->check(signer, items, count, deadline, done, context, ret_operation, error);
}

void signer_cancel(struct signer *signer, struct signer_operation **operation) {
  if (*operation) signer->ops->cancel(signer, *operation);
  *operation = NULL;
}

void signer_destroy(struct signer *signer) {
  if (signer) signer->ops->destroy(signer);
}
