#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "dkimroll/entropy.h"

/* The first words of splitmix64 with seed 0, e220a8397b1dcdaf and 6e789e6aa1b965f4, lowest octet first. */
static void test_entropy__a_seed_gives_the_known_stream(void **state) {
  (void)state;
  static const uint8_t expected[] = {0xaf, 0xcd, 0x1d, 0x7b, 0x39, 0xa8, 0x20, 0xe2,
                                     0xf4, 0x65, 0xb9, 0xa1, 0x6a, 0x9e, 0x78, 0x6e};
  struct entropy_seeded seeded;
  uint8_t octets[sizeof(expected)];
  entropy_seed(&seeded, 0);
  seeded.entropy.fill(&seeded.entropy, octets, sizeof(octets));
  assert_memory_equal(octets, expected, sizeof(expected));
}

static void test_entropy__below_reaches_every_value_and_none_beyond(void **state) {
  (void)state;
  struct entropy_seeded seeded;
  entropy_seed(&seeded, 7);
  int seen[6] = {0};
  for (int i = 0; i < 6000; i++) {
    uint32_t value = entropy_below(&seeded.entropy, 6);
    assert_true(value < 6);
    seen[value]++;
  }
  for (int i = 0; i < 6; i++) assert_in_range(seen[i], 850, 1150);
  assert_int_equal(entropy_below(&seeded.entropy, 1), 0);
}

static void fill_with_ones(struct entropy *entropy, void *octets, size_t size) {
  (void)entropy;
  static int calls;
  memset(octets, calls++ == 0 ? 0xff : 0x01, size);
}

static void test_entropy__below_draws_again_what_would_favour_small_values(void **state) {
  (void)state;
  struct entropy biased = {.fill = fill_with_ones};
  /* 2^32 - 1 lies above the only whole multiple of 3 * 2^30 and is no fair draw: the second one counts. */
  assert_int_equal(entropy_below(&biased, UINT32_C(3) << 30), 0x01010101);
}

static void test_entropy__the_kernel_gives_something_new_each_time(void **state) {
  (void)state;
  uint8_t first[32] = {0};
  uint8_t second[32] = {0};
  entropy_system.fill(&entropy_system, first, sizeof(first));
  entropy_system.fill(&entropy_system, second, sizeof(second));
  assert_memory_not_equal(first, second, sizeof(first));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_entropy__a_seed_gives_the_known_stream),
      cmocka_unit_test(test_entropy__below_reaches_every_value_and_none_beyond),
      cmocka_unit_test(test_entropy__below_draws_again_what_would_favour_small_values),
      cmocka_unit_test(test_entropy__the_kernel_gives_something_new_each_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
