/* Between life_world.c, which holds the world, and life_steps.c, which acts in it. */
#ifndef DKIMROLL_TESTS_LIFE_WORLD_PARTS_H
#define DKIMROLL_TESTS_LIFE_WORLD_PARTS_H

#include "life_world.h"

void life_read_clock(struct life *life);
struct life_record *life_add_record(struct life *life, const char *selector);
void life_change_record(const struct life *life, struct life_record *record, size_t publisher, enum life_content content);
unsigned life_tables_bit(struct life *life, const struct policy_signer *signer);
void life_sign_with(struct life *life, struct life_tables *tables, const char *selector);

#endif
