/* Jobs of the keeper, as a loop side that was taken over would send them: frames of the fuzzer's over a real socketpair to a worker's handlers, for private keys and for
 * tables. Nothing outside of the folder that the policy names is touched, every job gets an answer that can be read, and the loop side reads any answer.
 *
 * For each frame: KIND, a u16 size, and so many octets of payload; KIND 0xff: octets that are no frame, and the end. ROOT in them becomes the folder. */
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/keeper_frame.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/text.h"
#include "fuzz.h"

/* As long as the folder that mkdtemp(3) makes of it. */
#define ROOT "/dev/shm/fuzz-KEEPER"
#define FOLDER "/dev/shm/fuzz-XXXXXX"
#define FOLDER_ELSEWHERE "/tmp/././fuzz-XXXXXX"

enum { FRAMES_MAX = 8, NO_FRAME = 0xff, HANDLERS_MAX = KEY_JOBS_COUNT + OPENDKIM_JOBS_COUNT, DEPTH_MAX = 16 };

static struct {
  char folder[sizeof FOLDER];
  char keys[64], outside[64];
  struct key_roots key_roots;
  struct opendkim_roots table_roots;
  struct keeper_handler handlers[HANDLERS_MAX];
  struct keeper_handlers all;
} bench;

/* ---- the folder ---- */

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)status, (void)kind, (void)place;
  return remove(path);
}

static void remove_folder(void) {
  (void)nftw(bench.folder, remove_entry, DEPTH_MAX, FTW_DEPTH | FTW_PHYS);
}

static void write_file(const char *name, const char *text) {
  CLEANUP_FREE char *path = text_format("%s/%s", bench.folder, name);
  CLEANUP_CLOSE int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  FUZZ_HOLDS(descriptor >= 0 && write(descriptor, text, strlen(text)) == (ssize_t)strlen(text), "cannot write %s",
             path);
}

static void fill_folder(void) {
  static const char pem[] = "-----BEGIN PRIVATE KEY-----\n"
                            "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
                            "-----END PRIVATE KEY-----\n";
  (void)mkdir(bench.folder, 0700);
  (void)mkdir(bench.keys, 0700);
  (void)mkdir(bench.outside, 0700);
  write_file("keys/here.private", pem);
  write_file("outside/secret", "secret");
  write_file("KeyTable", "s0._domainkey.example.com example.com:s0:/keys/s0.private\n");
  write_file("SigningTable", "*@example.com s0._domainkey.example.com\n");
  write_file("pid", "1");
  CLEANUP_FREE char *link = text_format("%s/leads-out", bench.keys);
  (void)!symlink(bench.outside, link);
}

static int count_entry(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)status, (void)place;
  if (kind == FTW_F) FUZZ_HOLDS(text_ends(path, "/outside/secret"), "%s was made", path);
  return 0;
}

/* What lies beside the keys is as it was, and no key can be read by others. */
static void expect_untouched(void) {
  CLEANUP_FREE char *secret = text_format("%s/secret", bench.outside);
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  FUZZ_HOLDS(nftw(bench.outside, count_entry, DEPTH_MAX, FTW_PHYS) == 0, "the folder beside the keys is gone");
  FUZZ_HOLDS(file_read(secret, 64, &text, &size, NULL, &error) == 0 && text_equal(text, "secret"), "%s", error.message);
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
  bench.all = (struct keeper_handlers){bench.handlers, count};
}

/* ---- frames ---- */

static void put_folder(uint8_t *octets, size_t size) {
  for (uint8_t *found = octets; (found = memmem(found, size - (size_t)(found - octets), ROOT, strlen(ROOT)));)
    memcpy(found, bench.folder, strlen(ROOT));
}

static void add_frame(struct fuzz_input *input, uint64_t id, struct buffer *stream) {
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
    return;
  }
  FUZZ_HOLDS(keeper_frame_write(id, kind, payload, octets.size, &frame, NULL) == 0, "no frame");
  buffer_add(stream, frame.data, frame.size);
}

/* An answer is one, and says what its kind has to say. */
static void expect_answer(const struct buffer *octets, uint64_t last_id) {
  struct keeper_frame frame;
  struct error result = {0}, error = {0};
  FUZZ_HOLDS(keeper_frame_read(octets, &frame, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(frame.id <= last_id, "an answer to the job %llu", (unsigned long long)frame.id);
  FUZZ_HOLDS(keeper_reply_read(&frame.payload, &result, &error) == 0, "%s", error.message);
  if (result.code < 0) {
    FUZZ_HOLDS(result.message[0], "%s without a message", error_code_name(result.code));
    return;
  }
  const uint8_t *reply = frame.payload.data + frame.payload.position;
  const size_t size = frame.payload.size - frame.payload.position;
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  if (frame.kind == KEEPER_GENERATE || frame.kind == KEEPER_COPY || frame.kind == KEEPER_READ_PUBLIC)
    FUZZ_HOLDS(key_jobs_read_public(reply, size, &key, &error) == 0, "%s", error.message);
  if (frame.kind != KEEPER_EDIT_TABLES && frame.kind != KEEPER_READ_TABLES) return;
  FUZZ_HOLDS(size >= 4, "an answer about tables of %zu octets", size);
  const size_t count = (size_t)reply[2] << 8 | reply[3];
  struct table_outcome *outcomes = calloc(count + 1, sizeof *outcomes);
  FUZZ_HOLDS(opendkim_jobs_read_tables(reply, size, outcomes, count, &error) == 0, "%s", error.message);
  free(outcomes);
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
  FUZZ_HOLDS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no socket");
  (void)setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  (void)setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  if (stream->size > 0)
    FUZZ_HOLDS(send(ends[0], stream->data, stream->size, MSG_DONTWAIT) == (ssize_t)stream->size, "the socket is full");
  FUZZ_HOLDS(shutdown(ends[0], SHUT_WR) == 0, "no end");
  (void)keeper_worker_run(ends[1], &bench.all);
  close(ends[1]);
  FUZZ_HOLDS(read_answers(ends[0], last_id) <= last_id + FRAMES_MAX, "more answers than jobs");
  close(ends[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  CLEANUP(buffer_release) struct buffer stream = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  uint64_t id = 0;
  if (!bench.folder[0]) bench_open();
  fill_folder();
  while (input.size > 0 && id < FRAMES_MAX) add_frame(&input, ++id, &stream);
  live(&stream, UINT64_MAX - FRAMES_MAX);
  expect_untouched();
  remove_folder();
  return 0;
}
