/* OpenDKIM's flat tables as OpenDKIM reads them, written from what was measured (docs/architecture.md, section 12) and opendkim.conf(5), and not from
 * src/signer/table*.c, so that it shares no mistake with them. One configuration: read once, kept as long as anybody signs with it. */
#ifndef DKIMROLL_TESTS_SIM_TABLES_H
#define DKIMROLL_TESTS_SIM_TABLES_H

#include <stdbool.h>
#include <stddef.h>

#include "dkimroll/policy.h"

enum { SIM_TABLES_MATCHES_MAX = 4, SIM_TABLES_TEXT = 512 };

struct sim_tables_paths {
  const char *key_table, *signing_table;
  enum signing_table_format format;
  bool multiple_signatures; /* of a refile: table every match signs, not the first alone */
};

struct sim_tables;

/* NULL: a table cannot be read, so OpenDKIM refuses this configuration. The caller holds one reference. */
struct sim_tables *sim_tables_read(const struct sim_tables_paths *paths);
struct sim_tables *sim_tables_hold(struct sim_tables *tables);
void sim_tables_drop(struct sim_tables *tables); /* NULL is fine */

/* What signs for an address, with "%" filled in. */
struct sim_tables_match {
  bool broken; /* SigningTable names a key that KeyTable lacks, or whose value is malformed: that sender's mail is tempfailed */
  char domain[SIM_TABLES_TEXT], selector[SIM_TABLES_TEXT], path[SIM_TABLES_TEXT];
};
/* Returns the number of matches: 0 is mail that passes unsigned. */
size_t sim_tables_match(const struct sim_tables *tables, const char *address, struct sim_tables_match matches[SIM_TABLES_MATCHES_MAX]);

#endif
