/* JSON (RFC 8259) written as it comes, without holding the document: status and plan of a hundred thousand domains are as cheap as of one. */
#ifndef DKIMROLL_JSON_H
#define DKIMROLL_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
  FILE *out;
  bool comma;    /* something stands before the next item at this level */
  bool new_line; /* the next item begins on a line of its own */
};

/* name is NULL inside a list and for the outermost value. bracket: '{' or '['; closed by '}' or ']'. */
void json_open(struct json *json, const char *name, char bracket);
void json_close(struct json *json, char bracket);
/* Puts the next item, or the next closing bracket, on a new line. */
void json_break(struct json *json);
/* NULL is written as null. Octets that are not UTF-8 become U+FFFD, so that the document stays valid whatever a name server said. */
void json_text(struct json *json, const char *name, const char *text);
void json_number(struct json *json, const char *name, int64_t number);
void json_bool(struct json *json, const char *name, bool value);
/* "2026-01-24T15:04:05Z", "never"; TIME_UNSET is null. */
void json_moment(struct json *json, const char *name, int64_t moment);

#endif
