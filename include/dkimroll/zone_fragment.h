/* A fragment of a zone in master file format (RFC 1035 5.1), to be included by the zone's own file: TXT records of dkimroll and nothing else, one for each name, sorted. Pure text: who reads and writes the
 * file is runner_fragment.h. */
#ifndef DKIMROLL_ZONE_FRAGMENT_H
#define DKIMROLL_ZONE_FRAGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/buffer.h"
#include "dkimroll/error.h"

enum {
  FRAGMENT_FILE_MAX = 64 * 1024 * 1024, /* 100,000 records of RSA-2048 in one delegated zone are 47 MiB */
  FRAGMENT_RECORDS_MAX = 200000,        /* as many fit that of Ed25519 three times over; a zone of more is better one that takes updates */
};

struct fragment_record {
  char *name; /* owned; lower case, without the final dot */
  uint32_t ttl;
  char *text; /* owned; the whole content */
};

struct fragment {
  struct fragment_record *records; /* owned, sorted by name */
  size_t count;
  size_t capacity;
};

enum fragment_change {
  FRAGMENT_ADD = 1,     /* nothing stands at the name, or this very record */
  FRAGMENT_REPLACE = 2, /* record_before stands there, or record, or nothing */
  FRAGMENT_DELETE = 3,  /* record_before or record_also stands there, or nothing */
  FRAGMENT_KEEP = 4,    /* added if nothing stands there, else left as it is: a record that belongs there and may have been lost */
};

struct fragment_edit {
  enum fragment_change change;
  const char *name;
  uint32_t ttl;
  const char *record;        /* NULL with DELETE */
  const char *record_before; /* REPLACE, DELETE */
  const char *record_also;   /* DELETE; NULL: nothing */
};

/* Reads text, which is what fragment_write wrote for zone, or empty. ERROR_CONFLICT names the first line that is not: then somebody else wrote it or in it. ERROR_LIMIT, ERROR_NO_MEMORY. Caller
 * releases. */
int fragment_parse(const char *text, size_t size, const char *zone, struct fragment *ret_fragment, struct error *error) ERROR_USE_RESULT;
/* Carries out one edit; *ret_changed tells whether there was anything to do. ERROR_CONFLICT: something else stands at the name, and the fragment is as it was; ERROR_INVALID: no name below
 * zone, or a record that is none; ERROR_LIMIT, ERROR_NO_MEMORY. */
int fragment_edit(struct fragment *fragment, const char *zone, const struct fragment_edit *edit, bool *ret_changed, struct error *error)
    ERROR_USE_RESULT;
/* Adds the file to buffer. */
void fragment_write(const struct fragment *fragment, const char *zone, const char *path, struct buffer *buffer);
void fragment_release(struct fragment *fragment);

/* Adds the content of a record as the strings of a master file, "..." "...", each of at most 255 octets. */
void fragment_write_strings(const char *text, struct buffer *buffer);

/* A zone's name that may become a part of a file's name: lower case, labels of letters, digits, hyphens and underscores, no final dot. ERROR_INVALID. */
int fragment_check_zone(const char *zone, struct error *error) ERROR_USE_RESULT;

#endif
