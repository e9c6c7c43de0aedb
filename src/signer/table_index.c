#include "dkimroll/table_index.h"

#include <stdlib.h>
#include <string.h>

bool table_index_init(struct table_index *index, size_t expected) {
  size_t buckets = 64;
  while (buckets < expected) buckets *= 2;
  index->heads = malloc(buckets * sizeof(*index->heads));
  index->tails = malloc(buckets * sizeof(*index->tails));
  if (!index->heads || !index->tails) return false;
  memset(index->heads, 0xff, buckets * sizeof(*index->heads));
  memset(index->tails, 0xff, buckets * sizeof(*index->tails));
  index->bucket_count = buckets;
  return true;
}

void table_index_release(struct table_index *index) {
  free(index->heads);
  free(index->tails);
  free(index->next);
  *index = (struct table_index){0};
}

bool table_index_add(struct table_index *index, uint64_t hash, uint32_t line) {
  if (line >= index->capacity) {
    size_t capacity = index->capacity ? index->capacity * 2 : index->bucket_count;
    while (capacity <= line) capacity *= 2;
    uint32_t *next = realloc(index->next, capacity * sizeof(*next));
    if (!next) return false;
    index->next = next;
    index->capacity = capacity;
  }
  size_t bucket = (size_t)hash & (index->bucket_count - 1);
  index->next[line] = TABLE_NO_LINE;
  if (index->heads[bucket] == TABLE_NO_LINE)
    index->heads[bucket] = line;
  else
    index->next[index->tails[bucket]] = line;
  index->tails[bucket] = line;
  return true;
}

uint32_t table_index_first(const struct table_index *index, uint64_t hash) {
  return index->bucket_count ? index->heads[(size_t)hash & (index->bucket_count - 1)] : TABLE_NO_LINE;
}

uint32_t table_index_next(const struct table_index *index, uint32_t line) {
  return index->next[line];
}

uint64_t table_hash(const char *text, size_t size, bool nocase) {
  uint64_t hash = UINT64_C(14695981039346656037);
  for (size_t i = 0; i < size; i++) {
    char letter = text[i];
    if (nocase && letter >= 'A' && letter <= 'Z') letter = (char)(letter - 'A' + 'a');
    hash = (hash ^ (uint8_t)letter) * UINT64_C(1099511628211);
  }
  /* The buckets take the low bits, which FNV mixes least. */
  return hash ^ (hash >> 32);
}
