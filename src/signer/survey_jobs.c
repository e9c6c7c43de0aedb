/* The worker side of the survey: reads tables and keys as they are. The tables are those of the policy's signers, and files are named by those tables or lie in the key
 * directories, so whoever has taken over the loop's process learns no more than public halves of keys that sign anyway. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/survey.h"
#include "dkimroll/text.h"

/* ---- reading ---- */

struct work {
  char *key_table, *signing_table, *key_directory; /* owned */
  char **domains;                                  /* owned, sorted */
  size_t domain_count;
  struct table *keys; /* owned */
  struct table_span *named; /* owned; in keys */
  size_t named_count;
  struct buffer body; /* of the reply */
  uint32_t count;     /* keys in it */
  bool too_many;      /* there are more than SURVEY_KEYS_MAX */
};

static void work_release(struct work *work) {
  free(work->key_table);
  free(work->signing_table);
  free(work->key_directory);
  for (size_t i = 0; i < work->domain_count; i++) free(work->domains[i]);
  free(work->domains);
  free(work->named);
  table_free(work->keys);
  buffer_release(&work->body);
}

static int refuse(const struct reader *reader, struct error *error) {
  return reader_refuse(reader, "a job for a survey", error);
}

static int read_request(struct reader *request, struct work *work, struct error *error) {
  work->key_table = reader_text_field(request);
  work->signing_table = reader_text_field(request);
  work->key_directory = reader_text_field(request);
  const uint32_t count = reader_u32(request);
  if (request->failed || !work->key_directory || count > SURVEY_DOMAINS_MAX) return refuse(request, error);
  work->domains = calloc((size_t)count + 1, sizeof(char *));
  if (!work->domains) return error_set(error, ERROR_NO_MEMORY, "keeper: out of memory");
  for (uint32_t i = 0; i < count; i++) {
    work->domains[i] = reader_text_field(request);
    if (!work->domains[i]) return refuse(request, error);
    work->domain_count++;
    if (!work->domains[i][0] || strchr(work->domains[i], '/') || text_equal(work->domains[i], ".") || text_equal(work->domains[i], "..")) return refuse(request, error);
  }
  return 0;
}

static int check_roots(const struct opendkim_roots *roots, const struct work *work, struct error *error) {
  for (size_t i = 0; i < roots->count; i++) {
    const struct opendkim_root *root = &roots->items[i];
    if (text_equal(root->key_table, work->key_table) && text_equal(root->signing_table, work->signing_table) &&
        opendkim_root_has_key(root, work->key_directory))
      return 0;
  }
  return error_set(error, ERROR_PERMISSION, "keeper: %s and %s are not tables of a signer of the policy", work->key_table,
                   work->signing_table);
}

static int read_table(const char *path, const char *label, char **ret_data, size_t *ret_size, struct error *error) {
  CLEANUP_FREE char *real = NULL;
  int result = file_resolve_foreign(path, &real, error);
  if (!result) result = file_read(real, TABLE_FILE_MAX, ret_data, ret_size, NULL, error);
  if (result == ERROR_NOT_FOUND) { /* no entries */
    *error = (struct error){0};
    *ret_data = calloc(1, 1);
    *ret_size = 0;
    return *ret_data ? 0 : error_set(error, ERROR_NO_MEMORY, "keeper: out of memory");
  }
  if (result) error_context(error, "%s", label);
  return result;
}

static int read_keys(const char *path, struct table **ret_keys, struct error *error) {
  char *data = NULL;
  size_t size = 0;
  int result = read_table(path, "KeyTable", &data, &size, error);
  if (!result) result = table_parse(TABLE_KEYS, path, data, size, ret_keys, error);
  if (result) free(data);
  return result;
}

/* ---- telling ---- */

static void tell(struct work *work, const struct survey_key *key) {
  struct buffer *body = &work->body;
  work->too_many |= work->count == SURVEY_KEYS_MAX;
  if (work->too_many) return;
  work->count++;
  buffer_add_u32(body, key->line);
  buffer_add_u8(body, (uint8_t)key->place);
  buffer_add_u8(body, key->every);
  buffer_add_u8(body, key->literal);
  buffer_add_text_field(body, key->name);
  buffer_add_text_field(body, key->domain);
  buffer_add_text_field(body, key->selector);
  buffer_add_text_field(body, key->path);
  buffer_add_text_field(body, key->problem ? key->problem : "");
  buffer_add_u64(body, (uint64_t)key->modified);
  buffer_add_u8(body, (uint8_t)key->public_half.algorithm);
  buffer_add_u32(body, key->public_half.bits);
  buffer_add_field(body, key->public_half.public_key, key->public_half.public_key ? key->public_half.public_key_size : 0);
}

/* 0: nobody can tell. */
static int64_t file_modified(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 ? status.st_mtim.tv_sec : 0;
}

/* Fills in what the file says of itself. */
static void look_at_file(struct survey_key *key, struct error *error) {
  if (key->path[0] != '/') {
    error_set(error, ERROR_INVALID, "its path %s depends on where OpenDKIM was started", key->path);
    return;
  }
  key->modified = file_modified(key->path);
  (void)!keypair_read_public(key->path, &key->public_half, error);
}

/* One KeyTable entry in its parts. Texts are owned. */
struct entry {
  char *name, *domain, *selector, *third;
  unsigned line;
};

static void entry_release(struct entry *entry) {
  free(entry->name);
  free(entry->domain);
  free(entry->selector);
  if (entry->third) explicit_bzero(entry->third, strlen(entry->third));
  free(entry->third);
}

static int no_memory(struct error *error) { return error_set(error, ERROR_NO_MEMORY, "keeper: out of memory"); }

/* 1: it is an entry; 0: it is not of the shape name domain:selector:key, which OpenDKIM does not read either. ERROR_NO_MEMORY. */
static int entry_split(const struct table *keys, size_t index, struct entry *entry, struct error *error) {
  struct table_span name, value;
  (void)!table_read_entry(keys, index, &name, &value, &entry->line);
  const char *end = value.text + value.size;
  const char *first = name.size > 0 && value.size > 0 ? memchr(value.text, ':', value.size) : NULL;
  const char *second = first ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;
  if (!second || second + 1 == end) return 0;
  entry->name = strndup(name.text, name.size);
  entry->domain = strndup(value.text, (size_t)(first - value.text));
  entry->selector = strndup(first + 1, (size_t)(second - first - 1));
  entry->third = strndup(second + 1, (size_t)(end - second - 1));
  return entry->name && entry->domain && entry->selector && entry->third ? 1 : no_memory(error);
}

static bool is_path(const char *third) {
  return third[0] == '/' || text_starts(third, "./") || text_starts(third, "../");
}

/* text with every "%" replaced by the domain. Caller frees. */
static char *fill_path(const char *text, const char *domain) {
  struct buffer filled = BUFFER_WITH_MAXIMUM(TABLE_LINE_MAX * 256);
  for (const char *p = text; *p; p++)
    if (*p == '%')
      buffer_add_text(&filled, domain);
    else
      buffer_add(&filled, p, 1);
  char *result = buffer_take_text(&filled);
  if (!result) buffer_release(&filled);
  return result;
}

/* What cannot be read just now is not told as what cannot be read: import would leave such a key alone. */
static bool is_passing(const struct error *error) { return error->code < 0 && (error->retryable || error->code == ERROR_NO_MEMORY || error->code == ERROR_SYSTEM); }

/* Tells the entry for one domain; with its public half if it was asked for. */
static int tell_entry(struct work *work, const struct entry *entry, const char *domain, bool read, struct error *ret_error) {
  const bool named = is_path(entry->third);
  CLEANUP_FREE char *path = named ? fill_path(entry->third, domain) : text_duplicate("");
  CLEANUP_FREE char *lower = text_duplicate(domain);
  struct error error = {0};
  if (!path || !lower) return no_memory(ret_error);
  text_lower(lower);
  const bool every = text_equal(entry->domain, "%");
  struct survey_key key = {.line = entry->line,
                           .place = named ? SURVEY_FILE : SURVEY_INLINE,
                           .every = every,
                           .literal = named && !every && text_equal(path, entry->third) && text_equal(lower, entry->domain),
                           .name = entry->name,
                           .domain = lower,
                           .selector = entry->selector,
                           .path = path,
                           .problem = error.message};
  if (read && named) look_at_file(&key, &error);
  if (read && !named) (void)!keypair_read_inline(entry->third, strlen(entry->third), &key.public_half, &error);
  if (!is_passing(&error)) tell(work, &key);
  keypair_public_release(&key.public_half);
  if (!is_passing(&error)) return 0;
  *ret_error = error;
  return error.code;
}

static int compare_texts(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int is_wanted(const struct work *work, const char *domain, bool *ret_wanted, struct error *error) {
  CLEANUP_FREE char *lower = text_duplicate(domain);
  if (!lower) return no_memory(error);
  text_lower(lower);
  const char *name = lower;
  *ret_wanted = bsearch(&name, work->domains, work->domain_count, sizeof(char *), compare_texts) != NULL;
  return 0;
}

static int tell_entries(struct work *work, struct error *error) {
  struct table_span name, value;
  unsigned line;
  int result = 0;
  for (size_t i = 0; result >= 0 && table_read_entry(work->keys, i, &name, &value, &line); i++) {
    CLEANUP(entry_release) struct entry entry = {0};
    bool wanted = false;
    result = entry_split(work->keys, i, &entry, error);
    if (result <= 0) continue;
    if (!text_equal(entry.domain, "%")) {
      result = is_wanted(work, entry.domain, &wanted, error);
      if (!result) result = tell_entry(work, &entry, entry.domain, wanted, error);
      continue;
    }
    result = 0;
    for (size_t j = 0; j < work->domain_count && j < SURVEY_EVERY_MAX && !result; j++) result = tell_entry(work, &entry, work->domains[j], true, error);
  }
  return result;
}

/* ---- files that no entry names ---- */

static int compare_spans(const void *a, const void *b) {
  const struct table_span *x = a, *y = b;
  const size_t size = x->size < y->size ? x->size : y->size;
  const int order = size > 0 ? memcmp(x->text, y->text, size) : 0;
  return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

/* The third fields of all entries, sorted, so that a hundred thousand files are not each looked for in a hundred thousand lines. */
static bool index_named(struct work *work) {
  struct table_span name, value;
  unsigned line;
  size_t count = 0;
  while (table_read_entry(work->keys, count, &name, &value, &line)) count++;
  work->named = calloc(count + 1, sizeof *work->named);
  for (size_t i = 0; work->named && i < count; i++) {
    (void)!table_read_entry(work->keys, i, &name, &value, &line);
    const char *end = value.text + value.size;
    const char *first = value.size > 0 ? memchr(value.text, ':', value.size) : NULL;
    const char *second = first ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;
    if (second) work->named[work->named_count++] = (struct table_span){.text = second + 1, .size = (size_t)(end - second - 1)};
  }
  if (work->named) qsort(work->named, work->named_count, sizeof *work->named, compare_spans);
  return work->named != NULL;
}

static bool is_named(const struct work *work, const char *path) {
  const struct table_span wanted = {.text = path, .size = strlen(path)};
  return bsearch(&wanted, work->named, work->named_count, sizeof *work->named, compare_spans) != NULL;
}

static int tell_file(struct work *work, const char *directory, const char *domain, const char *file, struct error *ret_error) {
  static const char suffix[] = ".private";
  CLEANUP_FREE char *path = text_format("%s/%s", directory, file);
  CLEANUP_FREE char *selector = strndup(file, strlen(file) - strlen(suffix));
  struct error error = {0};
  if (!path || !selector) return no_memory(ret_error);
  if (is_named(work, path)) return 0;
  struct survey_key key = {.place = SURVEY_UNNAMED,
                           .name = (char *)"",
                           .domain = (char *)domain,
                           .selector = selector,
                           .path = path,
                           .problem = error.message};
  look_at_file(&key, &error);
  if (!is_passing(&error)) tell(work, &key);
  keypair_public_release(&key.public_half);
  if (!is_passing(&error)) return 0;
  *ret_error = error;
  return error.code;
}

static int is_private(const struct dirent *entry) {
  return entry->d_name[0] != '.' && text_ends(entry->d_name, ".private") && strlen(entry->d_name) > strlen(".private");
}

/* What cannot be listed holds no file that matters here: whoever needs it will say so. But for what passes. */
static int tell_files_of(struct work *work, const char *domain, struct error *error) {
  CLEANUP_FREE char *directory = NULL;
  struct dirent **files = NULL;
  int result = policy_directory(work->key_directory, domain, &directory, error);
  if (result) return result;
  const int count = scandir(directory, &files, is_private, alphasort);
  if (count < 0 && errno != ENOENT && errno != ENOTDIR && errno != EACCES) return error_set_errno(error, errno, "cannot list %s", directory);
  if (count > SURVEY_FILES_MAX) {
    result = error_set(error, ERROR_LIMIT, "%s holds %d private keys, and no more than %d are looked at in one directory", directory, count, SURVEY_FILES_MAX);
    error_remedy(error, "move those that nobody needs any more out of it, and try again");
  }
  for (int j = 0; j < count; j++) {
    if (!result) result = tell_file(work, directory, domain, files[j]->d_name, error);
    free(files[j]);
  }
  free(files);
  return result;
}

static int tell_files(struct work *work, struct error *error) {
  int result = 0;
  for (size_t i = 0; i < work->domain_count && !result; i++) result = tell_files_of(work, work->domains[i], error);
  return result;
}

static int run_survey(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  CLEANUP(work_release) struct work work = {.body = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX - 64)};
  CLEANUP_FREE char *signing = NULL;
  size_t size = 0;
  int result = read_request(request, &work, error);
  if (!result) result = check_roots(context, &work, error);
  if (!result) result = read_keys(work.key_table, &work.keys, error);
  if (!result) result = read_table(work.signing_table, "SigningTable", &signing, &size, error);
  if (!result) result = tell_entries(&work, error);
  if (!result && !index_named(&work)) result = no_memory(error);
  if (!result) result = tell_files(&work, error);
  if (result) return result;
  buffer_add_field(&work.body, signing, size);
  buffer_add_u32(reply, work.count);
  buffer_add(reply, work.body.data, work.body.size);
  if (work.body.no_memory || reply->no_memory) return no_memory(error);
  if (!work.body.failed && !reply->failed && !work.too_many) return 0;
  return error_set(error, ERROR_LIMIT, "%s: what it names does not fit into one message; name fewer domains at a time", work.key_table);
}

/* ---- users of a file ---- */

struct users {
  char **paths; /* owned */
  struct stat *files;
  char **found; /* owned */
  size_t count;
};

static void users_release(struct users *users) {
  for (size_t i = 0; i < users->count; i++) {
    free(users->paths[i]);
    free(users->found[i]);
  }
  free(users->paths);
  free(users->files);
  free(users->found);
}

/* Which file it is; none where there is none. Not to know whether it is another name of a key would be to say that nobody uses it. */
static int look(const char *path, struct stat *ret_status, struct error *error) {
  *ret_status = (struct stat){0};
  if (stat(path, ret_status) == 0) return 0;
  const int failure = errno;
  *ret_status = (struct stat){0};
  const bool none = failure == ENOENT || failure == ENOTDIR || failure == ELOOP || failure == EACCES || failure == ENAMETOOLONG;
  return none ? 0 : error_set_errno(error, failure, "cannot look at %s", path);
}

static int read_users(struct reader *request, struct users *users, struct error *error) {
  const uint32_t count = reader_u32(request);
  if (request->failed || count > SURVEY_PATHS_MAX) return refuse(request, error);
  users->paths = calloc((size_t)count + 1, sizeof(char *));
  users->found = calloc((size_t)count + 1, sizeof(char *));
  users->files = calloc((size_t)count + 1, sizeof(struct stat));
  if (!users->paths || !users->found || !users->files) return error_set(error, ERROR_NO_MEMORY, "keeper: out of memory");
  for (; users->count < count; users->count++) {
    char *path = reader_text_field(request);
    if (!path) return refuse(request, error);
    users->paths[users->count] = path;
    const int result = look(path, &users->files[users->count], error);
    if (result) {
      users->count++;
      return result;
    }
  }
  return 0;
}

/* The same text, or another name of the same file: a link of either kind. */
static bool names_file(const char *path, const struct users *users, size_t i, const struct stat *status) {
  if (text_equal(path, users->paths[i])) return true;
  return status->st_ino != 0 && status->st_ino == users->files[i].st_ino && status->st_dev == users->files[i].st_dev;
}

static int find_users_of_entry(const struct table *keys, const char *key_table, size_t index, struct users *users, struct error *error) {
  CLEANUP(entry_release) struct entry entry = {0};
  struct stat status = {0};
  int result = entry_split(keys, index, &entry, error);
  if (result <= 0 || !is_path(entry.third)) return result < 0 ? result : 0;
  const char *percent = strchr(entry.third, '%');
  result = percent ? 0 : look(entry.third, &status, error);
  for (size_t i = 0; i < users->count && !result; i++) {
    /* A "%" is the domain of whoever sends: any directory of that pattern may be meant. */
    const bool like = percent && strncmp(entry.third, users->paths[i], (size_t)(percent - entry.third)) == 0 &&
                      text_ends(users->paths[i], strrchr(entry.third, '%') + 1);
    if (users->found[i] || !(like || (!percent && names_file(entry.third, users, i, &status)))) continue;
    users->found[i] = text_format("KeyTable %s, line %u", key_table, entry.line);
    if (!users->found[i]) result = no_memory(error);
  }
  return result;
}

static int find_users(const char *key_table, struct users *users, struct error *error) {
  struct table *keys = NULL;
  struct table_span name, value;
  unsigned line;
  int result = read_keys(key_table, &keys, error);
  for (size_t i = 0; !result && table_read_entry(keys, i, &name, &value, &line); i++)
    if (name.size > 0) result = find_users_of_entry(keys, key_table, i, users, error);
  table_free(keys);
  return result;
}

static int run_users(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  const struct opendkim_roots *roots = context;
  CLEANUP(users_release) struct users users = {0};
  int result = read_users(request, &users, error);
  for (size_t i = 0; i < roots->count && !result; i++) {
    bool done = false;
    for (size_t j = 0; j < i; j++) done |= text_equal(roots->items[j].key_table, roots->items[i].key_table);
    if (!done) result = find_users(roots->items[i].key_table, &users, error);
  }
  if (result) return result;
  buffer_add_u32(reply, (uint32_t)users.count);
  for (size_t i = 0; i < users.count; i++) buffer_add_text_field(reply, users.found[i]);
  return reply->no_memory ? no_memory(error) : 0;
}

size_t survey_handlers(const struct opendkim_roots *roots, struct keeper_handler *handlers) {
  void *context = (void *)(uintptr_t)roots; /* the handlers only read it */
  handlers[0] = (struct keeper_handler){.job = KEEPER_SURVEY, .run = run_survey, .context = context};
  handlers[1] = (struct keeper_handler){.job = KEEPER_KEY_USERS, .run = run_users, .context = context};
  return SURVEY_JOBS_COUNT;
}
