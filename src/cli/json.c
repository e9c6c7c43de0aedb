#include "dkimroll/json.h"

#include <string.h>

#include "dkimroll/clock.h"

/* Octets of the UTF-8 sequence at text (RFC 3629 section 4), 0: none of them begins here. */
static size_t utf8_length(const unsigned char *text) {
  static const struct {
    unsigned char first, last, second_first, second_last;
    size_t length;
  } rows[] = {
      {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
      {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
      {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    if (text[0] < rows[i].first || text[0] > rows[i].last) continue;
    if (rows[i].length > 1 && (text[1] < rows[i].second_first || text[1] > rows[i].second_last)) return 0;
    for (size_t j = 2; j < rows[i].length; j++)
      if (text[j] < 0x80 || text[j] > 0xbf) return 0;
    return rows[i].length;
  }
  return 0;
}

static void write_string(FILE *out, const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  fputc('"', out);
  while (*at) {
    const size_t length = utf8_length(at);
    if (*at == '"' || *at == '\\')
      fprintf(out, "\\%c", *at);
    else if (*at < 0x20 || *at == 0x7f)
      fprintf(out, "\\u%04x", *at);
    else if (length == 0)
      fputs("\\ufffd", out);
    else
      fwrite(at, 1, length, out);
    at += length ? length : 1;
  }
  fputc('"', out);
}

static void begin_item(struct json *json, const char *name) {
  if (json->comma) fputc(',', json->out);
  if (json->new_line)
    fputc('\n', json->out);
  else if (json->comma)
    fputc(' ', json->out);
  json->comma = true;
  json->new_line = false;
  if (!name) return;
  write_string(json->out, name);
  fputs(": ", json->out);
}

void json_open(struct json *json, const char *name, char bracket) {
  begin_item(json, name);
  fputc(bracket, json->out);
  json->comma = false;
}

void json_close(struct json *json, char bracket) {
  if (json->new_line) fputc('\n', json->out);
  json->new_line = false;
  fputc(bracket, json->out);
  json->comma = true;
}

void json_break(struct json *json) {
  json->new_line = true;
}

void json_text(struct json *json, const char *name, const char *text) {
  begin_item(json, name);
  if (text)
    write_string(json->out, text);
  else
    fputs("null", json->out);
}

void json_number(struct json *json, const char *name, int64_t number) {
  begin_item(json, name);
  fprintf(json->out, "%lld", (long long)number);
}

void json_bool(struct json *json, const char *name, bool value) {
  begin_item(json, name);
  fputs(value ? "true" : "false", json->out);
}

void json_moment(struct json *json, const char *name, int64_t moment) {
  char text[TIME_TEXT_SIZE];
  json_text(json, name, moment == TIME_UNSET ? NULL : time_format_iso(moment, text));
}
