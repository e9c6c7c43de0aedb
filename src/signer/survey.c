/* The loop side of the survey, and what both sides know of its messages. */
#include "dkimroll/survey.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

static void key_release(struct survey_key *key) {
  free(key->name);
  free(key->domain);
  free(key->selector);
  free(key->path);
  free(key->problem);
  keypair_public_release(&key->public_half);
}

void survey_release(struct survey *survey) {
  for (size_t i = 0; i < survey->count; i++) key_release(&survey->keys[i]);
  free(survey->keys);
  table_free(survey->signing);
  *survey = (struct survey){0};
}

void survey_request(struct buffer *payload, const struct policy_signer *signer, const char *const *domains, size_t count) {
  buffer_add_text_field(payload, signer->key_table);
  buffer_add_text_field(payload, signer->signing_table);
  buffer_add_text_field(payload, signer->key_directory);
  buffer_add_u32(payload, (uint32_t)count);
  for (size_t i = 0; i < count; i++) buffer_add_text_field(payload, domains[i]);
}

static int refuse(const struct reader *reader, struct error *error) {
  return reader_refuse(reader, "the keeper's survey", error);
}

static int read_key(struct reader *reader, struct survey_key *key, struct error *error) {
  key->line = reader_u32(reader);
  key->place = (enum survey_place)reader_u8(reader);
  key->every = reader_u8(reader) != 0;
  key->literal = reader_u8(reader) != 0;
  key->name = reader_text_field(reader);
  key->domain = reader_text_field(reader);
  key->selector = reader_text_field(reader);
  key->path = reader_text_field(reader);
  key->problem = reader_text_field(reader);
  key->modified = (int64_t)reader_u64(reader);
  key->public_half.algorithm = (enum key_algorithm)reader_u8(reader);
  key->public_half.bits = reader_u32(reader);
  const uint8_t *octets = reader_field(reader, &key->public_half.public_key_size);
  if (reader->failed || !key->problem || key->place < SURVEY_FILE || key->place > SURVEY_UNNAMED) return refuse(reader, error);
  if (key->public_half.public_key_size == 0) return 0;
  key->public_half.public_key = malloc(key->public_half.public_key_size);
  if (!key->public_half.public_key) return error_set(error, ERROR_NO_MEMORY, "out of memory for a survey");
  memcpy(key->public_half.public_key, octets, key->public_half.public_key_size);
  return 0;
}

static int read_signing(struct reader *reader, const struct policy_signer *signer, struct survey *survey, struct error *error) {
  size_t size = 0;
  const uint8_t *octets = reader_field(reader, &size);
  if (reader->failed) return refuse(reader, error);
  char *data = calloc(1, size + 1);
  if (!data) return error_set(error, ERROR_NO_MEMORY, "out of memory for a survey");
  if (size > 0) memcpy(data, octets, size);
  const bool refile = signer->signing_table_format == SIGNING_TABLE_REFILE;
  const int result =
      table_parse(refile ? TABLE_SIGNING_REFILE : TABLE_SIGNING_FILE, signer->signing_table, data, size, &survey->signing, error);
  if (result) free(data);
  return result;
}

int survey_read(const uint8_t *reply, size_t reply_size, const struct policy_signer *signer, struct survey *ret_survey,
                struct error *error) {
  CLEANUP(survey_release) struct survey survey = {0};
  struct reader reader = {.data = reply, .size = reply_size};
  const uint32_t count = reader_u32(&reader);
  if (reader.failed || count > SURVEY_KEYS_MAX) return refuse(&reader, error);
  survey.keys = calloc((size_t)count + 1, sizeof *survey.keys);
  if (!survey.keys) return error_set(error, ERROR_NO_MEMORY, "out of memory for a survey");
  int result = 0;
  for (uint32_t i = 0; i < count && !result; i++) result = read_key(&reader, &survey.keys[survey.count++], error);
  if (!result) result = read_signing(&reader, signer, &survey, error);
  if (!result && reader.position != reader.size) result = refuse(&reader, error);
  if (result) return result;
  *ret_survey = survey;
  survey = (struct survey){0};
  return 0;
}

void survey_request_users(struct buffer *payload, const char *const *paths, size_t count) {
  buffer_add_u32(payload, (uint32_t)count);
  for (size_t i = 0; i < count; i++) buffer_add_text_field(payload, paths[i]);
}

int survey_read_users(const uint8_t *reply, size_t reply_size, char **ret_users, size_t count, struct error *error) {
  struct reader reader = {.data = reply, .size = reply_size};
  if (reader_u32(&reader) != count || reader.failed) return refuse(&reader, error);
  size_t done = 0;
  for (; done < count && !reader.failed; done++) {
    ret_users[done] = reader_text_field(&reader);
    if (ret_users[done] && !ret_users[done][0]) free(TAKE_PTR(ret_users[done]));
  }
  if (!reader.failed && reader.position == reader.size) return 0;
  for (size_t i = 0; i < done; i++) free(TAKE_PTR(ret_users[i]));
  return refuse(&reader, error);
}
