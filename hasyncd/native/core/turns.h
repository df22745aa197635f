/* Smooth weighted round robin (nginx): in every round of sum(weights) turns each member gets exactly its weight, and
 * at no moment of it a whole turn more than its share so far: turns are spread, not bunched.
 */
#ifndef HS_TURNS_H
#define HS_TURNS_H

#include "core/backend_table.h"

struct hs_turns {
    uint32_t last_id; /* who had the last turn: after a change of members it goes on behind him */
    int64_t due[HS_BACKENDS_MAX];
};

/* A new round, of new members; whoever comes after the last one in the order of ids is first among equals. */
void hs_turns_begin(struct hs_turns *turns, const struct hs_backend_table *table);

/* The member (a position) whose turn it is, or -1. Plain round robin takes every weight for 1. */
int hs_turns_next(struct hs_turns *turns, const struct hs_backend_table *table);

#endif
