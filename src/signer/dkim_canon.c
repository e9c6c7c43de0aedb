#include "dkimroll/dkim_canon.h"

#include <string.h>

static bool is_blank(char octet) {
  return octet == ' ' || octet == '\t';
}

static bool is_line_end(const char *text, size_t size) {
  return size >= 2 && text[0] == '\r' && text[1] == '\n';
}

struct span dkim_field_name(struct span field) {
  bool found = false;
  struct span rest = field;
  return span_trim(span_cut(&rest, ':', &found));
}

/* Unfolded, with each run of white space as one space, and none at either end (RFC 6376 3.4.2). */
static void relax_value(struct span value, struct buffer *output) {
  bool any = false, pending = false;
  for (size_t i = 0; i < value.size; i++) {
    if (is_line_end(value.text + i, value.size - i)) {
      i++;
      continue;
    }
    if (is_blank(value.text[i])) {
      pending = true;
      continue;
    }
    if (pending && any) buffer_add_u8(output, ' ');
    buffer_add_u8(output, (uint8_t)value.text[i]);
    any = true;
    pending = false;
  }
}

void dkim_canon_field(enum dkim_canon canon, struct span field, struct buffer *output) {
  if (canon == DKIM_SIMPLE) {
    buffer_add(output, field.text, field.size);
    return;
  }
  bool found = false;
  struct span value = field;
  (void)span_cut(&value, ':', &found);
  struct span name = dkim_field_name(field);
  for (size_t i = 0; i < name.size; i++) {
    char octet = name.text[i];
    buffer_add_u8(output, (uint8_t)(octet >= 'A' && octet <= 'Z' ? octet + ('a' - 'A') : octet));
  }
  if (found) buffer_add_u8(output, ':');
  relax_value(value, output);
}

/* What counts of a line: relaxed ones lose the white space at their end. */
static struct span trim_line(enum dkim_canon canon, struct span line) {
  while (canon == DKIM_RELAXED && line.size > 0 && is_blank(line.text[line.size - 1])) line.size--;
  return line;
}

static void add_line(enum dkim_canon canon, struct span line, struct buffer *output) {
  for (size_t i = 0; i < line.size; i++) {
    if (canon == DKIM_SIMPLE || !is_blank(line.text[i]))
      buffer_add_u8(output, (uint8_t)line.text[i]);
    else if (i == 0 || !is_blank(line.text[i - 1]))
      buffer_add_u8(output, ' ');
  }
}

/* Cuts the first line off; its end is not part of it. */
static struct span cut_line(struct span *rest) {
  struct span line = {rest->text, 0};
  while (line.size < rest->size && !is_line_end(line.text + line.size, rest->size - line.size)) line.size++;
  size_t used = line.size < rest->size ? line.size + 2 : line.size;
  *rest = (struct span){rest->text + used, rest->size - used};
  return line;
}

/* Empty lines wait until one follows that is not: those at the end do not count. What is left ends with CR LF, also if
 * the body did not; only a relaxed body without any line is nothing at all (RFC 6376 3.4.3, 3.4.4). */
void dkim_canon_body(enum dkim_canon canon, struct span body, struct buffer *output) {
  static const char line_end[] = "\r\n";
  size_t empty = 0;
  bool any = false;
  while (body.size > 0) {
    struct span line = trim_line(canon, cut_line(&body));
    if (line.size == 0) {
      empty++;
      continue;
    }
    for (; empty > 0; empty--) buffer_add_text(output, line_end);
    add_line(canon, line, output);
    buffer_add_text(output, line_end);
    any = true;
  }
  if (!any && canon == DKIM_SIMPLE) buffer_add_text(output, line_end);
}
