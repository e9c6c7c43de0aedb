/* What the two halves of the DNS part of check share. Internal to src/cli/check_dns.c and check_scratch.c. */
#ifndef DKIMROLL_CHECK_DNS_H
#define DKIMROLL_CHECK_DNS_H

#include "dkimroll/check.h"

/* Where a domain's records go, as the round of observation found it. Each domain has a scratch record of its own, because name servers grant rights name by name. */
struct check_place {
  const struct policy_domain *domain;
  char zone[DNS_NAME_TEXT_SIZE];
  char name[DNS_NAME_TEXT_SIZE];          /* of the scratch record */
  char owner[DNS_NAME_TEXT_SIZE];         /* where it really stands, behind aliases */
  char primary_server[ADDRESS_TEXT_SIZE]; /* that took it; empty: unknown */
  bool added;                             /* it was seen there */
  bool may_be_there;
};

/* One publisher's scratch records. */
struct check_scratch {
  struct check *check;
  const struct policy_publisher *policy;
  struct publisher *publisher; /* owned; NULL: it could not be made, which was told */
  struct publish_operation *operation;
  struct publish_item *items;  /* owned; borrowed by the operation */
  struct check_place **places; /* owned; by items */
  size_t count;
};

struct check_dns {
  struct observe_operation *survey;
  struct observe_item *items;        /* owned; by check->domains */
  char (*names)[DNS_NAME_TEXT_SIZE]; /* owned; of the items */
  struct check_place *places;        /* owned; those that were found */
  size_t place_count;
  struct check_scratch *scratches; /* owned; by publishers of the policy */
  size_t scratch_count;
};

/* Makes the publishers that the chosen domains use; errors are told. */
void check_scratch_prepare(struct check *check);
/* Adds, looks and deletes again, for all publishers side by side. */
void check_scratch_start(struct check *check);
/* The check cannot go on for error: tells which scratch records may be left behind, and how to delete them. */
void check_scratch_abandon(struct check *check, const struct error *error);
void check_scratch_release(struct check_scratch *scratch);

#endif
