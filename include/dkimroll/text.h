/* Small text helpers that libc lacks: bounded copies, case-insensitive ASCII compare, printable quoting. */
#ifndef DKIMROLL_TEXT_H
#define DKIMROLL_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* text_nearest looks at names of at most this length, and takes one that is at most this many edits away. */
enum { TEXT_NEAREST_LENGTH_MAX = 64, TEXT_NEAREST_DISTANCE_MAX = 2 };

/* Copies text into buffer of size octets, always terminated. false: it did not fit and was cut. */
bool text_copy(char *buffer, size_t size, const char *text);
bool text_equal(const char *a, const char *b);           /* NULL equals NULL only */
bool text_equal_nocase(const char *a, const char *b);    /* ASCII letters */
void text_lower(char *text);                             /* ASCII, in place */
bool text_starts(const char *text, const char *prefix);
bool text_ends(const char *text, const char *suffix);
/* Makes octets safe for a terminal or a log: printable ASCII stays, others become \ooo; cut to fit with "...". Returns buffer. */
const char *text_printable(const void *octets, size_t octets_size, char *buffer, size_t size);
/* Does a control character stand here: an octet below the blank, DEL, or U+0080 to U+009F as UTF-8 has them? Terminals obey all of them. */
bool text_is_control(const char *at);
/* Whole decimal number in [minimum, maximum]. false: anything else. */
bool text_parse_number(const char *text, long long minimum, long long maximum, long long *ret_number);
/* Copies that the caller frees; NULL only when out of memory (or text is NULL). */
char *text_duplicate(const char *text);
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Edit distance at most 2, less than the length of text, case ignored, a swap of neighbours counted once, picks "did you mean":
 * the nearest of names (count), the first among equals, or NULL. */
const char *text_nearest(const char *text, const char *const *names, size_t count);

#endif
