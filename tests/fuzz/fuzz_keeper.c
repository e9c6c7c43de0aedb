/* Jobs of the keeper, as a loop side that was taken over would send them: frames of the fuzzer's over a real socketpair to a worker's handlers, for private keys, for
 * tables, for surveys. Nothing outside of the folder that the policy names is touched, no private key comes out of it, nor into it from outside, every job gets an answer
 * that can be read, and the loop side reads any answer.
 *
 * For each frame: KIND, a u16 size, and so many octets of payload; KIND 0xff: octets that are no frame, and the end. ROOT in them becomes the folder. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/keeper_frame.h"
#include "dkimroll/keeper_walls.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/survey.h"
#include "dkimroll/text.h"
#include "folder.h"
#include "fuzz.h"

/* As long as the folder that mkdtemp(3) makes of it. */
#define ROOT "/dev/shm/fuzz-KEEPER"
#define FOLDER "/dev/shm/fuzz-XXXXXX"
#define FOLDER_ELSEWHERE "/tmp/././fuzz-XXXXXX"

enum { FRAMES_MAX = 8, NO_FRAME = 0xff, HANDLERS_MAX = KEY_JOBS_COUNT + OPENDKIM_JOBS_COUNT + SURVEY_JOBS_COUNT + 1 };

/* The secret halves of a key of the policy, of one that stands in the KeyTable itself, and of one that is nobody's business. */
#define KEY_HERE "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC"
#define KEY_INLINE "MC4CAQAwBQYDK2VwBCIEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"
#define KEY_OUTSIDE "MC4CAQAwBQYDK2VwBCIEICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj9A"
#define PEM(key) "-----BEGIN PRIVATE KEY-----\n" key "\n-----END PRIVATE KEY-----\n"

static struct {
  char folder[sizeof FOLDER];
  char keys[64], outside[64];
  struct key_roots key_roots;
  struct opendkim_roots table_roots;
  struct keeper_walls walls;
  struct keeper_handler handlers[HANDLERS_MAX];
  struct keeper_handlers all;
  const struct buffer *asked; /* all that the present worker is sent */
} bench;

/* ---- the folder ---- */

static void remove_folder(void) { folder_remove(bench.folder); }

static void fill_folder(void) {
  (void)mkdir(bench.folder, 0700);
  (void)mkdir(bench.keys, 0700);
  (void)mkdir(bench.outside, 0700);
  folder_write(bench.folder, "keys/here.private", PEM(KEY_HERE));
  folder_write(bench.folder, "outside/secret", "secret");
  folder_write(bench.folder, "outside/host.key", PEM(KEY_OUTSIDE));
  folder_write(bench.folder, "KeyTable", "s0._domainkey.example.com example.com:s0:/keys/s0.private\ninline example.com:s9:" KEY_INLINE "\n");
  folder_write(bench.folder, "SigningTable", "*@example.com s0._domainkey.example.com\n");
  folder_write(bench.folder, "pid", "1");
  CLEANUP_FREE char *link = text_format("%s/leads-out", bench.keys);
  CLEANUP_FREE char *key_link = text_format("%s/link.private", bench.keys);
  CLEANUP_FREE char *outside_key = text_format("%s/host.key", bench.outside);
  (void)!symlink(bench.outside, link);
  (void)!symlink(outside_key, key_link);
}

static int look_at_entry(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)place;
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  const bool outside = text_starts(path, bench.outside);
  if (kind != FTW_F || !S_ISREG(status->st_mode)) return 0;
  if (outside) FUZZ_HOLDS(text_ends(path, "/outside/secret") || text_ends(path, "/outside/host.key"), "%s was made", path);
  if (file_read(path, 1 << 20, &text, &size, NULL, NULL) != 0) return 0;
  FUZZ_HOLDS(outside || !memmem(text, size, KEY_OUTSIDE, strlen(KEY_OUTSIDE)), "%s holds a key from outside", path);
  return 0;
}

/* What lies beside the keys is as it was, and none of it is anywhere else. */
static void expect_untouched(void) {
  folder_look(bench.folder, look_at_entry);
  folder_expect(bench.outside, "secret", "secret");
  folder_expect(bench.outside, "host.key", PEM(KEY_OUTSIDE));
}

/* ---- the handlers ---- */

/* An RSA key costs a tenth of a second, and what is fuzzed here is the message. */
static int generate(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  struct keeper_handler handlers[KEY_JOBS_COUNT];
  if (request->size > request->position && request->data[request->position] == KEY_ALGORITHM_RSA)
    return error_set(error, ERROR_REFUSED, "no RSA here");
  key_jobs_handlers(context, handlers);
  return handlers[0].run(context, request, reply, error);
}

static void bench_open(void) {
  struct error error = {0};
  _Static_assert(sizeof FOLDER == sizeof ROOT && sizeof FOLDER == sizeof FOLDER_ELSEWHERE, "one stands for the other");
  memcpy(bench.folder, FOLDER, sizeof FOLDER);
  if (!mkdtemp(bench.folder)) memcpy(bench.folder, FOLDER_ELSEWHERE, sizeof FOLDER);
  FUZZ_HOLDS(access(bench.folder, F_OK) == 0 || mkdtemp(bench.folder), "no folder");
  (void)atexit(remove_folder);
  (void)snprintf(bench.keys, sizeof bench.keys, "%s/keys", bench.folder);
  (void)snprintf(bench.outside, sizeof bench.outside, "%s/outside", bench.folder);
  CLEANUP_FREE char *key_table = text_format("%s/KeyTable", bench.folder);
  CLEANUP_FREE char *signing_table = text_format("%s/SigningTable", bench.folder);
  CLEANUP_FREE char *directory = text_format("%s/keys/%%d", bench.folder);
  CLEANUP_FREE char *pid = text_format("%s/pid", bench.folder);
  const struct policy_signer signer = {.name = "local",
                                       .key_table = key_table,
                                       .signing_table = signing_table,
                                       .signing_table_format = SIGNING_TABLE_REFILE,
                                       .key_directory = directory,
                                       .key_name = "%s._domainkey.%d",
                                       .reload = RELOAD_PID_FILE,
                                       .reload_target = pid};
  FUZZ_HOLDS(key_roots_add(&bench.key_roots, bench.keys, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(opendkim_roots_add(&bench.table_roots, &signer, &error) == 0, "%s", error.message);
  size_t count = key_jobs_handlers(&bench.key_roots, bench.handlers);
  bench.handlers[0].run = generate;
  count += opendkim_jobs_handlers(&bench.table_roots, bench.handlers + count);
  count += survey_handlers(&bench.table_roots, bench.handlers + count);
  bench.handlers[count++] = keeper_walls_handler(&bench.walls);
  bench.all = (struct keeper_handlers){.items = bench.handlers, .count = count};
}

/* ---- frames ---- */

static void put_folder(uint8_t *octets, size_t size) {
  for (uint8_t *found = octets; (found = memmem(found, size - (size_t)(found - octets), ROOT, strlen(ROOT)));)
    memcpy(found, bench.folder, strlen(ROOT));
}

/* false: octets that may be any frames, with any numbers. */
static bool add_frame(struct fuzz_input *input, uint64_t id, struct buffer *stream) {
  const uint8_t kind = fuzz_take_u8(input);
  const uint16_t size = kind == NO_FRAME ? UINT16_MAX : fuzz_take_u16(input);
  const struct fuzz_input octets = fuzz_take(input, size);
  CLEANUP_FREE uint8_t *payload = malloc(octets.size + 1);
  CLEANUP(buffer_release) struct buffer frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  if (!payload) abort();
  if (octets.size > 0) memcpy(payload, octets.data, octets.size);
  put_folder(payload, octets.size);
  if (kind == NO_FRAME) {
    buffer_add(stream, payload, octets.size);
    return false;
  }
  FUZZ_HOLDS(keeper_frame_write(id, kind, payload, octets.size, &frame, NULL) == 0, "no frame");
  buffer_add(stream, frame.data, frame.size);
  return true;
}

/* Whatever a job is about, an answer holds no private key (I5): not that of a file, nor one that stands in a table, nor one from outside, whole or in its second half. */
static void expect_no_secret(const struct buffer *octets) {
  static const char *const secrets[] = {KEY_HERE, KEY_INLINE, KEY_OUTSIDE};
  for (size_t i = 0; i < ARRAY_SIZE(secrets); i++) {
    const size_t half = strlen(secrets[i]) / 2;
    /* libFuzzer sees what is compared, and says it itself. */
    if (bench.asked->size > 0 && memmem(bench.asked->data, bench.asked->size, secrets[i] + half, half)) continue;
    FUZZ_HOLDS(!memmem(octets->data, octets->size, secrets[i] + half, half), "a private key in an answer: %s", secrets[i]);
  }
}

static void expect_public(const uint8_t *reply, size_t size) {
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct error error = {0};
  FUZZ_HOLDS(key_jobs_read_public(reply, size, &key, &error) == 0, "%s", error.message);
}

static void expect_tables(const uint8_t *reply, size_t size) {
  struct error error = {0};
  FUZZ_HOLDS(size >= 4, "an answer about tables of %zu octets", size);
  const size_t count = (size_t)reply[2] << 8 | reply[3];
  struct table_outcome *outcomes = calloc(count + 1, sizeof *outcomes);
  FUZZ_HOLDS(opendkim_jobs_read_tables(reply, size, outcomes, count, &error) == 0, "%s", error.message);
  free(outcomes);
}

static void expect_survey(const uint8_t *reply, size_t size) {
  static const struct policy_signer signer = {.signing_table = "SigningTable", .signing_table_format = SIGNING_TABLE_REFILE};
  CLEANUP(survey_release) struct survey survey = {0};
  struct error error = {0};
  FUZZ_HOLDS(survey_read(reply, size, &signer, &survey, &error) == 0, "%s", error.message);
}

static void expect_users(const uint8_t *reply, size_t size) {
  FUZZ_HOLDS(size >= 4, "an answer about users of %zu octets", size);
  const size_t count = (size_t)reply[2] << 8 | reply[3];
  struct error error = {0};
  char **users = calloc(count + 1, sizeof *users);
  FUZZ_HOLDS(users && survey_read_users(reply, size, users, count, &error) == 0, "%s", error.message);
  for (size_t i = 0; i < count; i++) free(users[i]);
  free(users);
}

/* What a job that succeeded says is what its kind has to say. */
static void expect_reply(uint8_t kind, const uint8_t *reply, size_t size) {
  struct keeper_walls_report report;
  struct signer_stamp stamp;
  struct error error = {0};
  switch (kind) {
  case KEEPER_GENERATE:
  case KEEPER_COPY:
  case KEEPER_READ_PUBLIC: expect_public(reply, size); break;
  case KEEPER_EDIT_TABLES:
  case KEEPER_READ_TABLES: expect_tables(reply, size); break;
  case KEEPER_LOOK_TABLES: FUZZ_HOLDS(opendkim_jobs_read_stamp(reply, size, &stamp, &error) == 0, "%s", error.message); break;
  case KEEPER_SURVEY: expect_survey(reply, size); break;
  case KEEPER_KEY_USERS: expect_users(reply, size); break;
  case KEEPER_WALLS: FUZZ_HOLDS(keeper_walls_read(reply, size, &report, &error) == 0, "%s", error.message); break;
  default: FUZZ_HOLDS(size == 0, "%zu octets for a job that has nothing to say", size);
  }
}

/* An answer is one, in any case. */
static void expect_answer(const struct buffer *octets, uint64_t last_id) {
  struct keeper_frame frame;
  struct error result = {0}, error = {0};
  expect_no_secret(octets);
  FUZZ_HOLDS(keeper_frame_read(octets, &frame, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(frame.id <= last_id, "an answer to the job %llu", (unsigned long long)frame.id);
  FUZZ_HOLDS(keeper_reply_read(&frame.payload, &result, &error) == 0, "%s", error.message);
  if (result.code < 0)
    FUZZ_HOLDS(result.message[0], "%s without a message", error_code_name(result.code));
  else
    expect_reply(frame.kind, frame.payload.data + frame.payload.position, frame.payload.size - frame.payload.position);
}

static size_t read_answers(int descriptor, uint64_t last_id) {
  size_t count = 0;
  enum keeper_progress progress = KEEPER_COMPLETE;
  CLEANUP(buffer_release) struct buffer octets = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  while (keeper_frame_receive(descriptor, &octets, &progress, NULL) == 0 && progress == KEEPER_COMPLETE) {
    expect_answer(&octets, last_id);
    buffer_release(&octets);
    count++;
  }
  return count;
}

/* A worker's life, with all that it is asked in its socket already; one that breaks the protocol ends it. */
static void live(const struct buffer *stream, uint64_t last_id) {
  int ends[2];
  const int room = 1024 * 1024;
  bench.asked = stream;
  FUZZ_HOLDS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no socket");
  (void)setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  (void)setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  if (stream->size > 0)
    FUZZ_HOLDS(send(ends[0], stream->data, stream->size, MSG_DONTWAIT) == (ssize_t)stream->size, "the socket is full");
  FUZZ_HOLDS(shutdown(ends[0], SHUT_WR) == 0, "no end");
  (void)keeper_worker_run(ends[1], &bench.all);
  close(ends[1]);
  FUZZ_HOLDS(read_answers(ends[0], last_id) <= last_id, "more answers than jobs");
  close(ends[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  CLEANUP(buffer_release) struct buffer stream = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  uint64_t id = 0;
  bool known = true;
  if (!bench.folder[0]) bench_open();
  fill_folder();
  while (input.size > 0 && id < FRAMES_MAX) known &= add_frame(&input, ++id, &stream);
  live(&stream, known ? id : UINT64_MAX);
  expect_untouched();
  remove_folder();
  return 0;
}
