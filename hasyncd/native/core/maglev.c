/* Maglev's table (Eisenbud et al., NSDI 2016, §3.4): members take turns to claim the next free slot of their own
 * permutation of all slots. Weights by a running sum, so that only their ratios count: a member that is due takes one
 * slot and pays the heaviest member's weight.
 */
#include <stdlib.h>
#include <string.h>

#include "core/backend_table.h"
#include "core/siphash.h"

/* Public on purpose, as the ring's. */
static const struct hs_seed offset_seed = {0x686173796e636421u, 0x6d61676c65766f31u};
static const struct hs_seed step_seed = {0x686173796e636421u, 0x6d61676c65767331u};

struct claimant {
    uint32_t slot, step; /* the next slot to ask for; 1 … slots - 1 */
    uint32_t credit;
};

static uint32_t hash_below(struct hs_seed seed, uint32_t server_id, uint32_t limit)
{
    uint8_t name[4] = {(uint8_t)(server_id >> 24), (uint8_t)(server_id >> 16), (uint8_t)(server_id >> 8),
                       (uint8_t)server_id};

    return (uint32_t)(hs_siphash(seed, name, sizeof name) % limit);
}

enum { FREE = UINT16_MAX };

static void claim(uint16_t *slots, struct claimant *claimant, uint16_t member)
{
    /* Added step by step: offset + n * step would leave 32 bits in larger tables. */
    while (slots[claimant->slot] != FREE) {
        claimant->slot += claimant->step;
        if (claimant->slot >= HS_MAGLEV_SLOTS)
            claimant->slot -= HS_MAGLEV_SLOTS;
    }
    slots[claimant->slot] = member;
}

int hs_maglev_fill(uint16_t *slots, const struct hs_ring_server *members, uint32_t count)
{
    struct claimant *claimants = calloc(count, sizeof *claimants);
    uint32_t left = HS_MAGLEV_SLOTS, heaviest = 0;

    if (!claimants)
        return -1;
    memset(slots, 0xff, HS_MAGLEV_SLOTS * sizeof *slots);
    for (uint32_t i = 0; i < count; i++) {
        claimants[i] = (struct claimant){
            .slot = hash_below(offset_seed, members[i].server_id, HS_MAGLEV_SLOTS),
            .step = hash_below(step_seed, members[i].server_id, HS_MAGLEV_SLOTS - 1) + 1,
        };
        heaviest = members[i].weight > heaviest ? members[i].weight : heaviest;
    }
    while (left) {
        for (uint32_t i = 0; i < count && left; i++) {
            claimants[i].credit += members[i].weight;
            if (claimants[i].credit < heaviest)
                continue;
            claimants[i].credit -= heaviest;
            claim(slots, &claimants[i], (uint16_t)i);
            left--;
        }
    }
    free(claimants);
    return 0;
}
