/* The DOMAIN operands of commands that only look. */
#ifndef DKIMROLL_OPERANDS_H
#define DKIMROLL_OPERANDS_H

#include "dkimroll/session.h"

/* As domains stand in the store: lower case, without a final dot. false: too long for a domain. */
bool operand_domain(const char *operand, char ret_domain[DNS_NAME_TEXT_SIZE]);
/* Calls row for each lineage of the operands, in their order, or of all domains if there are none. ERROR_NOT_FOUND names an operand that is not managed, and what
 * may have been meant. Another non-zero is what row returned, with *error as row left it. */
int operands_each_lineage(struct session *session, store_row *row, void *context, struct error *error) ERROR_USE_RESULT;
/* ERROR_NOT_FOUND unless every operand has a lineage. */
int operands_check(struct session *session, struct error *error) ERROR_USE_RESULT;

#endif
