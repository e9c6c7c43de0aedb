#include "dkimroll/store.h"

#include <stdlib.h>

void store_policy_stamp_release(struct store_policy_stamp *stamp) {
  if (!stamp) return;
  for (size_t i = 0; i < stamp->file_count; i++) free(stamp->files[i].path);
  free(stamp->files);
  free(stamp->metrics_file);
  *stamp = (struct store_policy_stamp){0};
}

void store_request_release(struct store_request *request) {
  if (!request) return;
  free(request->domain);
  free(request->reason);
  free(request->asked_by);
  free(request->selector);
  *request = (struct store_request){0};
}

void store_resource_release(struct store_resource *resource) {
  if (!resource) return;
  free(resource->name);
  free(resource->failure);
  *resource = (struct store_resource){0};
}

void store_close(struct store *store) {
  if (store) store->ops->close(store);
}
