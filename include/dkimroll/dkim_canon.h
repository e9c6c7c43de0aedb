/* Canonicalization of header fields and bodies (RFC 6376 3.4). Pure. */
#ifndef DKIMROLL_DKIM_CANON_H
#define DKIMROLL_DKIM_CANON_H

#include "dkimroll/buffer.h"
#include "dkimroll/tag_list.h"

enum dkim_canon { DKIM_SIMPLE = 0, DKIM_RELAXED = 1 };

/* Adds one field ("Name: value", lines separated by CR LF) without a line end behind it. */
void dkim_canon_field(enum dkim_canon canon, struct span field, struct buffer *output);
/* Adds a whole body. */
void dkim_canon_body(enum dkim_canon canon, struct span body, struct buffer *output);
/* What stands before the colon of a field, without white space; the whole field if it has no colon. */
struct span dkim_field_name(struct span field);

#endif
