/* Private keys are made, read and copied: in which form, with which rights, and never over another file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "keypair_rig.h"

static size_t count_entries(const char *path) {
  DIR *directory = opendir(path);
  assert_non_null(directory);
  size_t count = 0;
  for (const struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
    if (!text_equal(entry->d_name, ".") && !text_equal(entry->d_name, "..")) count++;
  }
  closedir(directory);
  return count;
}

/* Signs with the file and verifies with the public half: they belong together. */
static void assert_pair(const char *path, const struct keypair_public *public_half) {
  static const unsigned char message[] = "what a signer signs";
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  EVP_PKEY *private_key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
  fclose(file);
  assert_non_null(private_key);
  bool rsa = public_half->algorithm == KEY_ALGORITHM_RSA;
  const unsigned char *position = public_half->public_key;
  EVP_PKEY *public_key =
      rsa ? d2i_PUBKEY(NULL, &position, (long)public_half->public_key_size)
          : EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_half->public_key, public_half->public_key_size);
  assert_non_null(public_key);
  const EVP_MD *digest = rsa ? EVP_sha256() : NULL;
  unsigned char signature[1024];
  size_t size = sizeof(signature);
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  assert_int_equal(EVP_DigestSignInit(context, NULL, digest, NULL, private_key), 1);
  assert_int_equal(EVP_DigestSign(context, signature, &size, message, sizeof(message)), 1);
  EVP_MD_CTX_reset(context);
  assert_int_equal(EVP_DigestVerifyInit(context, NULL, digest, NULL, public_key), 1);
  assert_int_equal(EVP_DigestVerify(context, signature, size, message, sizeof(message)), 1);
  EVP_MD_CTX_free(context);
  EVP_PKEY_free(private_key);
  EVP_PKEY_free(public_key);
}

static void test_keypair__an_rsa_key_is_written_as_pkcs8_and_belongs_to_its_public_half(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct error error = {0};
  assert_done(keypair_generate(KEY_ALGORITHM_RSA, 2048, path, &own_rights, &key, &error), &error);
  assert_int_equal(key.algorithm, KEY_ALGORITHM_RSA);
  assert_int_equal(key.bits, 2048);
  assert_int_equal(key.public_key_size, 294);
  CLEANUP_FREE char *text = read_text(path);
  assert_true(text_starts(text, "-----BEGIN PRIVATE KEY-----\n"));
  assert_pair(path, &key);
}

static void test_keypair__rsa_keys_have_the_bits_that_were_asked_for(void **state) {
  static const struct {
    unsigned bits;
    size_t octets, characters; /* of the public key, and of p= */
  } sizes[] = {{2048, 294, 392}, {3072, 422, 564}, {4096, 550, 736}};
  for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
    CLEANUP_FREE char *name = text_format("rsa%u", sizes[i].bits);
    CLEANUP_FREE char *path = workplace_path(*state, name);
    CLEANUP(keypair_public_release) struct keypair_public key = {0};
    CLEANUP_FREE char *record = NULL;
    struct error error = {0};
    assert_done(keypair_generate(KEY_ALGORITHM_RSA, sizes[i].bits, path, &own_rights, &key, &error), &error);
    assert_int_equal(key.bits, sizes[i].bits);
    assert_int_equal(key.public_key_size, sizes[i].octets);
    assert_pair(path, &key);
    assert_done(record_build(KEY_ALGORITHM_RSA, key.public_key, key.public_key_size, &record, &error), &error);
    assert_int_equal(strlen(record), strlen("v=DKIM1; k=rsa; p=") + sizes[i].characters);
  }
}

static void test_keypair__an_ed25519_key_has_32_public_octets_and_256_bits(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  make_ed25519(path, &key);
  assert_int_equal(key.algorithm, KEY_ALGORITHM_ED25519);
  assert_int_equal(key.bits, 256);
  assert_int_equal(key.public_key_size, 32);
  assert_pair(path, &key);
}

static void test_keypair__two_keys_are_never_the_same(void **state) {
  CLEANUP_FREE char *first = workplace_path(*state, "first");
  CLEANUP_FREE char *second = workplace_path(*state, "second");
  CLEANUP(keypair_public_release) struct keypair_public a = {0};
  CLEANUP(keypair_public_release) struct keypair_public b = {0};
  make_ed25519(first, &a);
  make_ed25519(second, &b);
  assert_memory_not_equal(a.public_key, b.public_key, 32);
}

static void test_keypair__reading_gives_the_public_half_that_generating_gave(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  CLEANUP(keypair_public_release) struct keypair_public made = {0};
  CLEANUP(keypair_public_release) struct keypair_public read = {0};
  struct error error = {0};
  make_ed25519(path, &made);
  assert_done(keypair_read_public(path, &read, &error), &error);
  assert_int_equal(read.algorithm, made.algorithm);
  assert_int_equal(read.bits, made.bits);
  assert_int_equal(read.public_key_size, made.public_key_size);
  assert_memory_equal(read.public_key, made.public_key, made.public_key_size);
}

static void test_keypair__the_file_has_owner_group_and_mode_and_its_new_directories_admit_the_group(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "keys/example.com/server.private");
  CLEANUP_FREE char *inner = workplace_path(*state, "keys/example.com");
  CLEANUP_FREE char *outer = workplace_path(*state, "keys");
  const struct file_rights rights = {.owner = 1234, .group = 5678, .mode = 0640};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct error error = {0};
  struct stat status;
  assert_done(keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &rights, &key, &error), &error);
  assert_int_equal(stat(path, &status), 0);
  assert_int_equal(status.st_mode, S_IFREG | 0640);
  assert_int_equal(status.st_uid, 1234);
  assert_int_equal(status.st_gid, 5678);
  const char *const directories[] = {inner, outer};
  for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
    assert_int_equal(stat(directories[i], &status), 0);
    assert_int_equal(status.st_mode, S_IFDIR | 0750);
    assert_int_equal(status.st_uid, 0);
    assert_int_equal(status.st_gid, 5678);
  }
  assert_int_equal(count_entries(inner), 1);
}

static void test_keypair__an_existing_file_is_never_overwritten(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  struct keypair_public key = {0};
  struct error error = {0};
  workplace_write(path, "something of the postmaster", 0600);
  int result = keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &own_rights, &key, &error);
  assert_int_equal(result, ERROR_EXISTS);
  assert_non_null(strstr(error.message, path));
  assert_null(key.public_key);
  CLEANUP_FREE char *text = read_text(path);
  assert_string_equal(text, "something of the postmaster");
}

static void test_keypair__sizes_that_are_not_for_dkim_are_refused_before_anything_is_made(void **state) {
  static const struct {
    enum key_algorithm algorithm;
    unsigned bits;
  } refused[] = {
      {KEY_ALGORITHM_RSA, 1024}, {KEY_ALGORITHM_RSA, 2047},    {KEY_ALGORITHM_RSA, 8192},     {KEY_ALGORITHM_RSA, 256},
      {KEY_ALGORITHM_RSA, 0},    {KEY_ALGORITHM_ED25519, 255}, {(enum key_algorithm)0, 2048},
  };
  CLEANUP_FREE char *path = workplace_path(*state, "keys/server.private");
  CLEANUP_FREE char *directory = workplace_path(*state, "keys");
  for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
    struct keypair_public key = {0};
    struct error error = {0};
    int result = keypair_generate(refused[i].algorithm, refused[i].bits, path, &own_rights, &key, &error);
    assert_int_equal(result, ERROR_INVALID);
    assert_non_null(strstr(error.remedy, "2048"));
  }
  assert_false(exists(directory));
}

static void test_keypair__a_path_that_is_no_absolute_file_is_refused(void **state) {
  (void)state;
  struct keypair_public key = {0};
  struct error error = {0};
  assert_int_equal(keypair_generate(KEY_ALGORITHM_ED25519, 256, "server.private", &own_rights, &key, &error),
                   ERROR_INVALID);
  assert_int_equal(keypair_generate(KEY_ALGORITHM_ED25519, 256, "/tmp/", &own_rights, &key, &error), ERROR_INVALID);
}

static void test_keypair__pkcs1_files_of_other_tools_are_read(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "mail.private");
  EVP_PKEY *key = EVP_RSA_gen(1024);
  BIO *file = BIO_new_file(path, "w");
  assert_int_equal(PEM_write_bio_PrivateKey_traditional(file, key, NULL, NULL, 0, NULL, NULL), 1);
  BIO_free(file);
  EVP_PKEY_free(key);
  CLEANUP_FREE char *text = read_text(path);
  assert_true(text_starts(text, "-----BEGIN RSA PRIVATE KEY-----"));
  CLEANUP(keypair_public_release) struct keypair_public public_half = {0};
  struct error error = {0};
  assert_done(keypair_read_public(path, &public_half, &error), &error);
  assert_int_equal(public_half.bits, 1024);
  assert_pair(path, &public_half);
}

static void test_keypair__files_without_a_usable_key_are_told_apart(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  struct keypair_public key = {0};
  struct error error = {0};
  assert_int_equal(keypair_read_public(path, &key, &error), ERROR_NOT_FOUND);
  workplace_write(path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0600);
  assert_int_equal(keypair_read_public(path, &key, &error), ERROR_INVALID);
  assert_non_null(strstr(error.message, path));
  workplace_write(path, "", 0600);
  assert_int_equal(keypair_read_public(path, &key, &error), ERROR_INVALID);
  EVP_PKEY *curve = EVP_EC_gen("P-256");
  FILE *file = fopen(path, "w");
  PEM_write_PrivateKey(file, curve, NULL, NULL, 0, NULL, NULL);
  fclose(file);
  EVP_PKEY_free(curve);
  assert_int_equal(keypair_read_public(path, &key, &error), ERROR_INVALID);
  assert_non_null(strstr(error.message, "EC"));
}

static void test_keypair__a_key_with_a_passphrase_is_refused_without_asking_for_it(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
  FILE *file = fopen(path, "w");
  assert_int_equal(PEM_write_PKCS8PrivateKey(file, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL), 1);
  fclose(file);
  EVP_PKEY_free(key);
  struct keypair_public public_half = {0};
  struct error error = {0};
  assert_int_equal(keypair_read_public(path, &public_half, &error), ERROR_INVALID);
  assert_non_null(strstr(error.message, "passphrase"));
}

static void test_keypair__a_copy_for_another_signer_has_its_owner_and_the_same_key(void **state) {
  CLEANUP_FREE char *source = workplace_path(*state, "opendkim/server.private");
  CLEANUP_FREE char *path = workplace_path(*state, "rspamd/server.private");
  const struct file_rights rights = {.owner = 1234, .group = 5678, .mode = 0440};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  CLEANUP(keypair_public_release) struct keypair_public copied = {0};
  CLEANUP(keypair_public_release) struct keypair_public again = {0};
  struct error error = {0};
  struct stat status;
  make_ed25519(source, &key);
  assert_done(keypair_copy(source, path, &rights, &copied, &error), &error);
  assert_memory_equal(copied.public_key, key.public_key, 32);
  assert_pair(path, &key);
  assert_int_equal(stat(path, &status), 0);
  assert_int_equal(status.st_mode, S_IFREG | 0440);
  assert_int_equal(status.st_uid, 1234);
  assert_true(exists(source));
  assert_done(keypair_copy(source, path, &rights, &again, &error), &error);
}

static void test_keypair__a_copy_never_overwrites_another_key(void **state) {
  CLEANUP_FREE char *source = workplace_path(*state, "source");
  CLEANUP_FREE char *path = workplace_path(*state, "target");
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  CLEANUP(keypair_public_release) struct keypair_public other = {0};
  struct keypair_public copied = {0};
  struct error error = {0};
  make_ed25519(source, &key);
  make_ed25519(path, &other);
  assert_int_equal(keypair_copy(source, path, &own_rights, &copied, &error), ERROR_EXISTS);
  assert_null(copied.public_key);
  assert_pair(path, &other);
}

static void test_keypair__a_key_in_a_table_is_read_as_opendkim_reads_it(void **state) {
  (void)state;
  struct error error = {0};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  CLEANUP(keypair_public_release) struct keypair_public again = {0};
  EVP_PKEY *pair = EVP_RSA_gen(1024);
  unsigned char *der = NULL;
  const int size = i2d_PrivateKey(pair, &der);
  assert_true(size > 0);
  unsigned char *text = calloc(2, (size_t)size);
  const int length = EVP_EncodeBlock(text, der, size);
  assert_done(keypair_read_inline((char *)text, (size_t)length, &key, &error), &error);
  assert_int_equal(key.bits, 1024);
  BIO *pem = BIO_new(BIO_s_mem());
  assert_int_equal(PEM_write_bio_PrivateKey(pem, pair, NULL, NULL, 0, NULL, NULL), 1);
  char *octets = NULL;
  const long pem_size = BIO_get_mem_data(pem, &octets);
  assert_done(keypair_read_inline(octets, (size_t)pem_size, &again, &error), &error);
  assert_int_equal(again.public_key_size, key.public_key_size);
  assert_memory_equal(again.public_key, key.public_key, key.public_key_size);
  struct keypair_public none = {0};
  assert_int_equal(keypair_read_inline((char *)text, (size_t)length - 8, &none, &error), ERROR_INVALID);
  assert_int_equal(keypair_read_inline("", 0, &none, &error), ERROR_INVALID);
  assert_int_equal(keypair_read_inline("/etc/passwd", strlen("/etc/passwd"), &none, &error), ERROR_INVALID);
  BIO_free(pem);
  free(text);
  OPENSSL_free(der);
  EVP_PKEY_free(pair);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, workplace_setup, workplace_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_keypair__an_rsa_key_is_written_as_pkcs8_and_belongs_to_its_public_half),
      TEST(test_keypair__rsa_keys_have_the_bits_that_were_asked_for),
      TEST(test_keypair__an_ed25519_key_has_32_public_octets_and_256_bits),
      TEST(test_keypair__two_keys_are_never_the_same),
      TEST(test_keypair__a_key_in_a_table_is_read_as_opendkim_reads_it),
      TEST(test_keypair__reading_gives_the_public_half_that_generating_gave),
      TEST(test_keypair__the_file_has_owner_group_and_mode_and_its_new_directories_admit_the_group),
      TEST(test_keypair__an_existing_file_is_never_overwritten),
      TEST(test_keypair__sizes_that_are_not_for_dkim_are_refused_before_anything_is_made),
      TEST(test_keypair__a_path_that_is_no_absolute_file_is_refused),
      TEST(test_keypair__pkcs1_files_of_other_tools_are_read),
      TEST(test_keypair__files_without_a_usable_key_are_told_apart),
      TEST(test_keypair__a_key_with_a_passphrase_is_refused_without_asking_for_it),
      TEST(test_keypair__a_copy_for_another_signer_has_its_owner_and_the_same_key),
      TEST(test_keypair__a_copy_never_overwrites_another_key),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
