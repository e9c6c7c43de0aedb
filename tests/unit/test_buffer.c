#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"

static void test_buffer__grows_and_stays_terminated(void **state) {
  (void)state;
  CLEANUP(buffer_release) struct buffer buffer = BUFFER_WITH_MAXIMUM(10000);
  assert_null(buffer.data);
  for (int i = 0; i < 1000; i++) {
    buffer_add_text(&buffer, "abcdefghi");
    assert_int_equal(buffer.data[buffer.size], 0);
  }
  buffer_format(&buffer, "%d-%s", 42, "end");
  assert_false(buffer.failed);
  assert_int_equal(buffer.size, 9006);
  assert_string_equal((char *)buffer.data + 9000, "42-end");
}

static void test_buffer__takes_exactly_its_maximum_and_then_stays_failed(void **state) {
  (void)state;
  CLEANUP(buffer_release) struct buffer buffer = BUFFER_WITH_MAXIMUM(8);
  buffer_add_text(&buffer, "12345678");
  assert_false(buffer.failed);
  buffer_add_u8(&buffer, 'x');
  assert_true(buffer.failed);
  assert_int_equal(buffer.size, 8);
  buffer_consume(&buffer, 4);
  buffer_add_text(&buffer, "y");
  buffer_format(&buffer, "z");
  assert_true(buffer.failed);
  assert_string_equal((char *)buffer.data, "5678");
  buffer_reset(&buffer);
  buffer_format(&buffer, "%s", "87654321");
  assert_false(buffer.failed);
  assert_string_equal((char *)buffer.data, "87654321");
  buffer_format(&buffer, "%s", "9");
  assert_true(buffer.failed);
}

static void test_buffer__sizes_near_the_end_of_memory_fail(void **state) {
  (void)state;
  CLEANUP(buffer_release) struct buffer buffer = BUFFER_WITH_MAXIMUM(SIZE_MAX);
  buffer_add_text(&buffer, "a");
  assert_false(buffer.failed);
  buffer_add(&buffer, "", SIZE_MAX - 1);
  assert_true(buffer.failed);
  assert_string_equal((char *)buffer.data, "a");
}

static void test_buffer__numbers_are_in_network_order(void **state) {
  (void)state;
  CLEANUP(buffer_release) struct buffer buffer = BUFFER_WITH_MAXIMUM(64);
  buffer_add_u8(&buffer, 0x01);
  buffer_add_u16(&buffer, 0x0203);
  buffer_add_u32(&buffer, 0x04050607);
  buffer_add_u64(&buffer, UINT64_C(0x08090a0b0c0d0e0f));
  const uint8_t expected[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  assert_int_equal(buffer.size, sizeof(expected));
  assert_memory_equal(buffer.data, expected, sizeof(expected));
}

static void test_buffer__reader_gives_back_what_was_written(void **state) {
  (void)state;
  CLEANUP(buffer_release) struct buffer buffer = BUFFER_WITH_MAXIMUM(256);
  buffer_add_u8(&buffer, 0xff);
  buffer_add_u16(&buffer, 0xfffe);
  buffer_add_u32(&buffer, 0xfffefdfc);
  buffer_add_u64(&buffer, UINT64_C(0xfffefdfcfbfaf9f8));
  buffer_add_field(&buffer, "a\0b", 3);
  buffer_add_text_field(&buffer, "text");
  buffer_add_text_field(&buffer, NULL);
  struct reader reader = {.data = buffer.data, .size = buffer.size};
  assert_int_equal(reader_u8(&reader), 0xff);
  assert_int_equal(reader_u16(&reader), 0xfffe);
  assert_true(reader_u32(&reader) == 0xfffefdfc);
  assert_true(reader_u64(&reader) == UINT64_C(0xfffefdfcfbfaf9f8));
  size_t size = 0;
  const uint8_t *field = reader_field(&reader, &size);
  assert_int_equal(size, 3);
  assert_memory_equal(field, "a\0b", 3);
  CLEANUP_FREE char *text = reader_text_field(&reader);
  assert_string_equal(text, "text");
  CLEANUP_FREE char *nothing = reader_text_field(&reader);
  assert_string_equal(nothing, "");
  assert_false(reader.failed);
  assert_int_equal(reader.position, reader.size);
}

static void test_buffer__reader_fails_past_the_end_and_stays_failed(void **state) {
  (void)state;
  const uint8_t octets[] = {1, 2, 3};
  struct reader reader = {.data = octets, .size = sizeof(octets)};
  assert_int_equal(reader_u16(&reader), 0x0102);
  assert_int_equal(reader_u16(&reader), 0);
  assert_true(reader.failed);
  assert_int_equal(reader_u8(&reader), 0);
  assert_null(reader_octets(&reader, 0));
}

static void test_buffer__reader_refuses_a_field_longer_than_the_data(void **state) {
  (void)state;
  const uint8_t octets[] = {0xff, 0xff, 0xff, 0xff, 'a'};
  struct reader reader = {.data = octets, .size = sizeof(octets)};
  size_t size = 7;
  assert_null(reader_field(&reader, &size));
  assert_int_equal(size, 0);
  assert_true(reader.failed);
}

static void test_buffer__reader_refuses_text_with_a_nul_octet(void **state) {
  (void)state;
  const uint8_t octets[] = {0, 0, 0, 3, 'a', 0, 'b'};
  struct reader reader = {.data = octets, .size = sizeof(octets)};
  assert_null(reader_text_field(&reader));
  assert_true(reader.failed);
}

static void test_buffer__a_refusal_tells_what_and_whether_it_was_memory(void **state) {
  (void)state;
  struct error error = {0};
  struct reader reader = {.failed = true};
  assert_int_equal(reader_refuse(&reader, "a letter", &error), ERROR_PROTOCOL);
  assert_string_equal(error.message, "a letter cannot be read");
  reader.no_memory = true;
  assert_int_equal(reader_refuse(&reader, "a letter", &error), ERROR_NO_MEMORY);
  assert_string_equal(error.message, "out of memory while a letter was read");
}

static void test_buffer__an_empty_reader_has_an_empty_piece_only(void **state) {
  (void)state;
  struct reader reader = {0};
  assert_non_null(reader_octets(&reader, 0));
  assert_false(reader.failed);
  assert_null(reader_octets(&reader, 1));
  assert_true(reader.failed);
}

static void test_buffer__consume_keeps_the_rest(void **state) {
  (void)state;
  CLEANUP(buffer_release) struct buffer buffer = BUFFER_WITH_MAXIMUM(16);
  buffer_consume(&buffer, 0);
  buffer_add_text(&buffer, "abcdef");
  buffer_consume(&buffer, 2);
  assert_string_equal((char *)buffer.data, "cdef");
  buffer_consume(&buffer, 4);
  assert_int_equal(buffer.size, 0);
  buffer_add_text(&buffer, "0123456789abcdef");
  assert_false(buffer.failed);
}

static void test_buffer__take_text_moves_the_memory_out(void **state) {
  (void)state;
  struct buffer buffer = BUFFER_WITH_MAXIMUM(4);
  CLEANUP_FREE char *empty = buffer_take_text(&buffer);
  assert_string_equal(empty, "");
  buffer_add_text(&buffer, "text");
  CLEANUP_FREE char *text = buffer_take_text(&buffer);
  assert_string_equal(text, "text");
  assert_null(buffer.data);
  buffer_add_text(&buffer, "again");
  buffer_release(&buffer);
  assert_int_equal(buffer.maximum, 4);
  assert_false(buffer.failed);
  buffer_release(NULL);
}

/* Callers that get NULL have nothing to release: the sanitizer would see what is left. */
static void test_buffer__take_text_of_a_failed_buffer_frees_its_memory(void **state) {
  (void)state;
  struct buffer buffer = BUFFER_WITH_MAXIMUM(8);
  buffer_add_text(&buffer, "12345678");
  buffer_add_text(&buffer, "9");
  assert_null(buffer_take_text(&buffer));
  assert_null(buffer.data);
  assert_true(buffer.failed && !buffer.no_memory);
  buffer_add_text(&buffer, "1");
  assert_null(buffer.data);
  buffer_reset(&buffer);
  buffer_add_text(&buffer, "87654321");
  CLEANUP_FREE char *text = buffer_take_text(&buffer);
  assert_string_equal(text, "87654321");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_buffer__grows_and_stays_terminated),
      cmocka_unit_test(test_buffer__takes_exactly_its_maximum_and_then_stays_failed),
      cmocka_unit_test(test_buffer__sizes_near_the_end_of_memory_fail),
      cmocka_unit_test(test_buffer__numbers_are_in_network_order),
      cmocka_unit_test(test_buffer__reader_gives_back_what_was_written),
      cmocka_unit_test(test_buffer__reader_fails_past_the_end_and_stays_failed),
      cmocka_unit_test(test_buffer__reader_refuses_a_field_longer_than_the_data),
      cmocka_unit_test(test_buffer__reader_refuses_text_with_a_nul_octet),
      cmocka_unit_test(test_buffer__a_refusal_tells_what_and_whether_it_was_memory),
      cmocka_unit_test(test_buffer__an_empty_reader_has_an_empty_piece_only),
      cmocka_unit_test(test_buffer__consume_keeps_the_rest),
      cmocka_unit_test(test_buffer__take_text_moves_the_memory_out),
      cmocka_unit_test(test_buffer__take_text_of_a_failed_buffer_frees_its_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
