/* For the tests of import: tables given as texts, with signers, keys and name servers that are played, up to where keys are judged. */
#ifndef DKIMROLL_TESTS_IMPORT_RIG_H
#define DKIMROLL_TESTS_IMPORT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/import.h"
#include "dkimroll/text.h"

enum { NOW = 1800000000 /* 2027-01-15 */, DAY = 86400, IMPORT_RIG_KEYS_MAX = 64 };

/* What there is before the import; only what differs has to be said. */
struct import_scene {
  const char *domains;        /* of the policy; NULL: "a.test: {}" */
  const char *signing_format; /* NULL: refile */
  const char *key_name;       /* "key-name: ..., " */
  bool multiple_signatures;
  const char *key_table, *signing_table;             /* of the signer local; a line is "name domain:selector:path" in the first */
  const char *other_key_table, *other_signing_table; /* of the signer other */
};

/* Names, and lines of a KeyTable with them. */
#define OLD "a-old._domainkey.a.test"
#define NEW "a-new._domainkey.a.test"
#define OLD_LINE OLD " a.test:a-old:/k/keys/a.test/a-old.private\n"
#define NEW_LINE NEW " a.test:a-new:/k/keys/a.test/a-new.private\n"

/* What a script leaves that appends a line and an empty one at each run: keys in lines 2, 4 and 6, of which the oldest signs. */
#define SCRIPT_LINE(date) "\nserver-" date "._domainkey.a.test a.test:server-" date ":/k/keys/a.test/server-" date ".private\n"
#define SCRIPT_KEYS SCRIPT_LINE("20260101") SCRIPT_LINE("20260401") SCRIPT_LINE("20260701")
#define SCRIPT_SIGNING                                                                                                 \
  "\n*@a.test server-20260101._domainkey.a.test\n\n*@a.test server-20260401._domainkey.a.test\n\n"                     \
  "*@a.test server-20260701._domainkey.a.test\n"
extern const struct import_scene IMPORT_SCRIPT;

struct import_rig {
  struct import_scene scene;
  struct policy *policy;
  struct cli cli;
  struct cli_arguments arguments;
  struct import import;
  struct error error;
};

/* The policy and the KeyTables. More keys may be added then, or changed, before import_rig_find goes on. */
void import_rig_open(struct import_rig *rig, const struct import_scene *scene);
void import_rig_close(struct import_rig *rig);
/* The key of a line of that signer's KeyTable; line 0: a file that no table names. The key is an Ed25519 one of its own for each path. Borrowed. */
struct survey_key *import_rig_add_key(struct import_rig *rig, size_t signer, unsigned line, const char *entry);
/* Keys and signing lines are found, every key has the record of its own on all servers, and every signer proves what its tables say. */
void import_rig_find(struct import_rig *rig);
/* All of that, from opening on; and to the judgement, where the world has no other answers. */
void import_rig_begin(struct import_rig *rig, const struct import_scene *scene);
void import_rig_judge(struct import_rig *rig, const struct import_scene *scene);

/* What was found of that name; fails the test if nothing was. */
struct import_domain *import_rig_domain(struct import_rig *rig, const char *name);
struct import_key *import_rig_key(struct import_rig *rig, const char *domain, const char *selector);

/* Two servers say this of the key; NULL: NXDOMAIN. */
void import_rig_serve(struct import_key *key, const char *first, const char *second);
/* The key is an RSA one instead. */
void import_rig_make_rsa(struct survey_key *key, unsigned bits);

void expect_fate(struct import_rig *rig, const char *domain, const char *selector, enum import_fate fate);
/* Left alone, with a reason and a remedy that say this among other words. */
void expect_left(struct import_rig *rig, const char *domain, const char *selector, const char *why, const char *remedy);

#endif
