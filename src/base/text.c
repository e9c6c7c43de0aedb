#include "dkimroll/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool text_copy(char *buffer, size_t size, const char *text) {
  if (size == 0) return false;
  size_t length = strnlen(text, size);
  bool fits = length < size;
  if (!fits) length = size - 1;
  memcpy(buffer, text, length);
  buffer[length] = '\0';
  return fits;
}

bool text_equal(const char *a, const char *b) {
  if (!a || !b) return a == b;
  return strcmp(a, b) == 0;
}

/* DNS names compare ASCII letters only (RFC 4343 section 3), so the locale's tolower(3) will not do. */
static char text_lower_letter(char letter) {
  return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

bool text_equal_nocase(const char *a, const char *b) {
  if (!a || !b) return a == b;
  for (; *a && *b; a++, b++)
    if (text_lower_letter(*a) != text_lower_letter(*b)) return false;
  return *a == *b;
}

void text_lower(char *text) {
  for (; *text; text++) *text = text_lower_letter(*text);
}

bool text_starts(const char *text, const char *prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_ends(const char *text, const char *suffix) {
  size_t length = strlen(text);
  size_t suffix_length = strlen(suffix);
  return length >= suffix_length && memcmp(text + length - suffix_length, suffix, suffix_length) == 0;
}

static bool text_is_printable(uint8_t octet) {
  return octet >= 0x20 && octet < 0x7f;
}

const char *text_printable(const void *octets, size_t octets_size, char *buffer, size_t size) {
  static const char mark[] = "...";
  const uint8_t *input = octets;
  if (size == 0) return "";
  size_t room = size - 1;
  size_t used = 0;
  size_t cut = 0; /* Where the mark goes if the whole does not fit: never inside an escape. */
  for (size_t i = 0; i < octets_size; i++) {
    size_t width = text_is_printable(input[i]) ? 1 : 4;
    if (used + width > room) {
      snprintf(buffer + cut, size - cut, "%s", mark);
      return buffer;
    }
    if (width == 1) {
      buffer[used] = (char)input[i];
    } else {
      buffer[used] = '\\';
      buffer[used + 1] = (char)('0' + (input[i] >> 6));
      buffer[used + 2] = (char)('0' + ((input[i] >> 3) & 7));
      buffer[used + 3] = (char)('0' + (input[i] & 7));
    }
    used += width;
    if (used + strlen(mark) <= room) cut = used;
  }
  buffer[used] = '\0';
  return buffer;
}

bool text_is_control(const char *at) {
  const unsigned char octet = (unsigned char)at[0];
  if (octet < 0x20 || octet == 0x7f) return true;
  return octet == 0xc2 && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] < 0xa0;
}

bool text_parse_number(const char *text, long long minimum, long long maximum, long long *ret_number) {
  const char *digits = text[0] == '-' ? text + 1 : text;
  if (digits[0] == '\0' || strspn(digits, "0123456789") != strlen(digits)) return false;
  errno = 0;
  long long number = strtoll(text, NULL, 10);
  if (errno != 0 || number < minimum || number > maximum) return false;
  *ret_number = number;
  return true;
}

char *text_duplicate(const char *text) {
  return text ? strdup(text) : NULL;
}

char *text_format(const char *format, ...) {
  char *text = NULL;
  va_list arguments;
  va_start(arguments, format);
  int length = vasprintf(&text, format, arguments);
  va_end(arguments);
  return length < 0 ? NULL : text;
}

static size_t text_smallest(size_t a, size_t b) {
  return a < b ? a : b;
}

/* Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours, case ignored. Both lengths are at
 * most TEXT_NEAREST_LENGTH_MAX. */
static size_t text_distance(const char *a, const char *b) {
  size_t rows[3][TEXT_NEAREST_LENGTH_MAX + 1] = {0};
  size_t b_length = strlen(b);
  for (size_t j = 0; j <= b_length; j++) rows[0][j] = j;
  size_t i = 1;
  for (; a[i - 1]; i++) {
    size_t *row = rows[i % 3];
    const size_t *above = rows[(i + 2) % 3];
    const size_t *two_above = rows[(i + 1) % 3];
    char letter = text_lower_letter(a[i - 1]);
    row[0] = i;
    for (size_t j = 1; j <= b_length; j++) {
      char other = text_lower_letter(b[j - 1]);
      row[j] = text_smallest(text_smallest(above[j], row[j - 1]) + 1, above[j - 1] + (letter != other));
      bool swapped = i > 1 && j > 1 && letter == text_lower_letter(b[j - 2]) && text_lower_letter(a[i - 2]) == other;
      if (swapped) row[j] = text_smallest(row[j], two_above[j - 2] + 1);
    }
  }
  return rows[(i - 1) % 3][b_length];
}

const char *text_nearest(const char *text, const char *const *names, size_t count) {
  size_t length = strlen(text);
  if (length > TEXT_NEAREST_LENGTH_MAX) return NULL;
  const char *nearest = NULL;
  /* A distance as large as the word itself would mean that every short name is near to every other. */
  size_t best = text_smallest(TEXT_NEAREST_DISTANCE_MAX + 1, length);
  for (size_t i = 0; i < count; i++) {
    if (strlen(names[i]) > TEXT_NEAREST_LENGTH_MAX) continue;
    size_t distance = text_distance(text, names[i]);
    if (distance >= best) continue;
    best = distance;
    nearest = names[i];
  }
  return nearest;
}
