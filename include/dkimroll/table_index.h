/* Hashed chains of line numbers, so that thousands of edits find their lines in a table of a hundred thousand. The
 * caller compares: a chain holds every line of a bucket, in the order in which lines were added. */
#ifndef DKIMROLL_TABLE_INDEX_H
#define DKIMROLL_TABLE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_NO_LINE UINT32_MAX

struct table_index {
  uint32_t *heads; /* of each bucket */
  uint32_t *tails;
  size_t bucket_count; /* power of two */
  uint32_t *next;      /* of each line */
  size_t capacity;     /* of next */
};

/* Makes an index for about expected lines. false: out of memory. Released with table_index_release also then. */
bool table_index_init(struct table_index *index, size_t expected);
void table_index_release(struct table_index *index);
/* Adds line, which is in no chain yet, at the end of its chain. false: out of memory. */
bool table_index_add(struct table_index *index, uint64_t hash, uint32_t line);
uint32_t table_index_first(const struct table_index *index, uint64_t hash);
uint32_t table_index_next(const struct table_index *index, uint32_t line);

/* FNV-1a over octets; nocase: ASCII letters as lower case. */
uint64_t table_hash(const char *text, size_t size, bool nocase);

#endif
