/* Short texts: addresses, durations, moments, milter sockets, selector templates, and resolv.conf. Any text is read, or refused; what was read is written as a text that
 * reads back as the same. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/milter.h"
#include "dkimroll/selector.h"
#include "dkimroll/transport.h"
#include "dkimroll/zone_source.h"
#include "fuzz.h"

enum { NOW = 1800000000 };

static void read_address(const char *text) {
  struct address address, again;
  char written[ADDRESS_TEXT_SIZE];
  struct error error = {0};
  const int result = address_parse(text, 53, &address, &error);
  if (result < 0) {
    fuzz_expect_error(result, &error);
    return;
  }
  address_format(&address, written);
  FUZZ_HOLDS(address_parse(written, 1, &again, &error) == 0, "%s: %s", written, error.message);
  FUZZ_HOLDS(address_equal(&address, &again), "%s is written as %s", text, written);
}

static void read_times(const char *text) {
  int64_t seconds = 0, moment = 0, again = 0;
  char written[TIME_TEXT_SIZE];
  if (duration_parse(text, &seconds)) FUZZ_HOLDS(seconds >= 0 && seconds <= DURATION_MAX, "%s", text);
  if (!time_parse(text, &moment)) return;
  FUZZ_HOLDS(time_parse(time_format_iso(moment, written), &again) && again == moment, "%s is written as %s", text,
             written);
}

static void read_milter(const char *text) {
  struct sockaddr_storage address;
  socklen_t size = 0;
  struct error error = {0};
  const int result = milter_parse_address(text, &address, &size, &error);
  if (result == 0) FUZZ_HOLDS(size > 0 && size <= sizeof address, "%s", text);
  if (result < 0) FUZZ_HOLDS(result == ERROR_CONFIG && error.message[0] && error.remedy[0], "%s", error.message);
}

static void read_selector(const char *text) {
  char selector[SELECTOR_SIZE], name[DNS_NAME_TEXT_SIZE];
  struct error error = {0};
  const int result = selector_check_template(text, &error);
  if (result < 0) {
    FUZZ_HOLDS(error.message[0], "refused without a reason: %s", text);
    return;
  }
  FUZZ_HOLDS(selector_make(text, NOW, SELECTOR_NUMBER_MAX, selector, &error) == 0, "%s: %s", text, error.message);
  FUZZ_HOLDS(selector_owner_name(selector, "example.com", name, &error) == 0, "%s: %s", selector, error.message);
}

static void read_resolvers(char *text) {
  struct address addresses[4];
  const size_t count = resolvconf_parse(text, addresses, ARRAY_SIZE(addresses));
  FUZZ_HOLDS(count <= ARRAY_SIZE(addresses), "%zu addresses", count);
  for (size_t i = 0; i < count; i++) FUZZ_HOLDS(addresses[i].size > 0, "an address without a size");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  CLEANUP_FREE char *text = fuzz_text(data, size);
  read_address(text);
  read_times(text);
  read_milter(text);
  read_selector(text);
  (void)selector_check_domain(text, NULL);
  read_resolvers(text); /* changes it */
  return 0;
}
