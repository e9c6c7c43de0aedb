#include "sim_tables.h"

#include <ctype.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

enum { SIM_TABLE_OCTETS_MAX = 16 * 1024 * 1024 };

struct sim_entry {
  char *key, *value; /* inside of the table's text */
  regex_t pattern;   /* of a refile: table */
};

struct sim_table {
  char *text;
  struct sim_entry *entries;
  size_t count;
};

struct sim_tables {
  size_t references;
  enum signing_table_format format;
  bool multiple_signatures;
  size_t compiled; /* patterns of senders */
  struct sim_table keys, senders;
};

static char *trim(char *text) {
  while (isspace((unsigned char)*text)) text++;
  size_t size = strlen(text);
  while (size > 0 && isspace((unsigned char)text[size - 1])) text[--size] = '\0';
  return text;
}

/* A comment starts anywhere, the key ends at the first white space; in a refile: table white space in front makes the line no entry. */
static void read_line(struct sim_table *table, char *line, bool refile) {
  line[strcspn(line, "#")] = '\0';
  if (refile && isspace((unsigned char)*line)) return;
  char *key = trim(line);
  if (*key == '\0') return;
  char *value = key;
  while (*value && !isspace((unsigned char)*value)) value++;
  if (*value) *value++ = '\0';
  table->entries[table->count++] = (struct sim_entry){.key = key, .value = trim(value)};
}

static bool read_table(struct sim_table *table, const char *path, bool refile) {
  size_t size = 0, lines = 1;
  struct error error;
  if (file_read(path, SIM_TABLE_OCTETS_MAX, &table->text, &size, NULL, &error) < 0) return false;
  for (size_t i = 0; i < size; i++) lines += table->text[i] == '\n';
  table->entries = calloc(lines, sizeof(*table->entries));
  assert_non_null(table->entries);
  for (char *line = table->text, *next; line; line = next) {
    next = strchr(line, '\n');
    if (next) *next++ = '\0';
    read_line(table, line, refile);
  }
  return true;
}

/* A pattern of a refile: table is a regular expression, but for "*", "." and "+" (dkimf_mkregexp of opendkim-db.c). */
static bool compile(struct sim_entry *entry) {
  char text[2 * SIM_TABLES_TEXT + 4] = "^";
  size_t used = 1;
  for (const char *p = entry->key; *p; p++) {
    assert_true(used + 4 < sizeof(text));
    if (*p == '*') text[used++] = '.';
    if (*p == '.' || *p == '+') text[used++] = '\\';
    text[used++] = *p;
  }
  text[used++] = '$';
  text[used] = '\0';
  return regcomp(&entry->pattern, text, REG_EXTENDED | REG_ICASE | REG_NOSUB) == 0;
}

/* One that does not compile makes OpenDKIM refuse the table. */
static bool compile_all(struct sim_tables *tables) {
  if (tables->format == SIGNING_TABLE_FILE) return true;
  while (tables->compiled < tables->senders.count && compile(&tables->senders.entries[tables->compiled])) tables->compiled++;
  return tables->compiled == tables->senders.count;
}

struct sim_tables *sim_tables_read(const struct sim_tables_paths *paths) {
  struct sim_tables *tables = calloc(1, sizeof(*tables));
  assert_non_null(tables);
  *tables = (struct sim_tables){.references = 1, .format = paths->format, .multiple_signatures = paths->multiple_signatures};
  if (read_table(&tables->senders, paths->signing_table, paths->format == SIGNING_TABLE_REFILE) &&
      read_table(&tables->keys, paths->key_table, false) && compile_all(tables))
    return tables;
  sim_tables_drop(tables);
  return NULL;
}

struct sim_tables *sim_tables_hold(struct sim_tables *tables) {
  tables->references++;
  return tables;
}

void sim_tables_drop(struct sim_tables *tables) {
  if (!tables || --tables->references > 0) return;
  while (tables->compiled > 0) regfree(&tables->senders.entries[--tables->compiled].pattern);
  free(tables->keys.text);
  free(tables->keys.entries);
  free(tables->senders.text);
  free(tables->senders.entries);
  free(tables);
}

static const char *find(const struct sim_table *table, const char *key, bool nocase) {
  for (size_t i = 0; i < table->count; i++)
    if (nocase ? strcasecmp(table->entries[i].key, key) == 0 : strcmp(table->entries[i].key, key) == 0) return table->entries[i].value;
  return NULL;
}

/* user@host, host, then user@.parent and .parent for each parent, user@*, * (opendkim.conf(5), SigningTable). */
static const char *find_in_file_table(const struct sim_table *senders, const char *address) {
  char key[SIM_TABLES_TEXT];
  const char *at = strrchr(address, '@');
  if (!at) return find(senders, "*", true);
  const int user = (int)(at - address);
  const char *value = find(senders, address, true);
  if (!value) value = find(senders, at + 1, true);
  for (const char *dot = strchr(at, '.'); dot && !value; dot = strchr(dot + 1, '.')) {
    snprintf(key, sizeof(key), "%.*s@%s", user, address, dot);
    value = find(senders, key, true);
    if (!value) value = find(senders, dot, true);
  }
  snprintf(key, sizeof(key), "%.*s@*", user, address);
  if (!value) value = find(senders, key, true);
  return value ? value : find(senders, "*", true);
}

/* Appends text to place with every "%" as domain. */
static void fill(char place[SIM_TABLES_TEXT], const char *text, size_t size, const char *domain) {
  size_t used = 0;
  for (size_t i = 0; i < size && used < SIM_TABLES_TEXT - 1; i++) {
    int added = text[i] == '%' ? snprintf(place + used, SIM_TABLES_TEXT - used, "%s", domain) : snprintf(place + used, SIM_TABLES_TEXT - used, "%c", text[i]);
    used += (size_t)added;
  }
  if (size == 0) place[0] = '\0';
  assert_true(used < SIM_TABLES_TEXT);
}

/* value: of SigningTable: a key name, and behind ":" an identity that does not matter here. */
static void look_up(const struct sim_tables *tables, const char *address, const char *value, struct sim_tables_match *match) {
  const char *at = strrchr(address, '@');
  const char *domain = at ? at + 1 : address;
  char name[SIM_TABLES_TEXT];
  *match = (struct sim_tables_match){.broken = true};
  fill(name, value, strcspn(value, ":"), domain);
  const char *key = find(&tables->keys, name, false);
  if (!key) return;
  const char *selector = strchr(key, ':');
  const char *path = selector ? strchr(selector + 1, ':') : NULL;
  if (!path || selector == key || path == selector + 1 || path[1] == '\0') return;
  fill(match->domain, key, (size_t)(selector - key), domain);
  fill(match->selector, selector + 1, (size_t)(path - selector - 1), domain);
  fill(match->path, path + 1, strlen(path + 1), domain);
  match->broken = false;
}

size_t sim_tables_match(const struct sim_tables *tables, const char *address, struct sim_tables_match matches[SIM_TABLES_MATCHES_MAX]) {
  if (tables->format == SIGNING_TABLE_FILE) {
    const char *value = find_in_file_table(&tables->senders, address);
    if (value) look_up(tables, address, value, &matches[0]);
    return value != NULL;
  }
  size_t count = 0;
  for (size_t i = 0; i < tables->senders.count && count < SIM_TABLES_MATCHES_MAX; i++) {
    if (regexec(&tables->senders.entries[i].pattern, address, 0, NULL, 0) != 0) continue;
    look_up(tables, address, tables->senders.entries[i].value, &matches[count++]);
    if (!tables->multiple_signatures) break;
  }
  return count;
}
