#include "dkimroll/policy.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"

int policy_signer_key_path(const struct policy_signer *signer, const char *domain, const char *selector,
                           char **ret_path, struct error *error) {
  struct buffer path = BUFFER_WITH_MAXIMUM(PATH_MAX - 1);
  for (const char *p = signer->key_directory; *p; p++) {
    if (p[0] == '%' && p[1] == 'd') {
      buffer_add_text(&path, domain);
      p++;
    } else {
      buffer_add(&path, p, 1);
    }
  }
  buffer_format(&path, "/%s.private", selector);
  char *text = buffer_take_text(&path);
  if (!text)
    return error_set(error, ERROR_LIMIT, "signer %s: the path of %s's private key is longer than %d octets",
                     signer->name, domain, PATH_MAX);
  *ret_path = text;
  return 0;
}
