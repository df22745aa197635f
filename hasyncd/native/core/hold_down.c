#include "core/hold_down.h"

#include <stdlib.h>

enum { CLOCK_MASK = (1 << 20) - 1 };

bool hs_hold_down_init(struct hs_hold_down *holds, uint32_t capacity)
{
    uint32_t sets = capacity / (2 * HS_HOLD_WAYS);

    *holds = (struct hs_hold_down){.sets = sets ? sets : 1};
    holds->entries = calloc((size_t)holds->sets * HS_HOLD_WAYS, sizeof *holds->entries);
    return holds->entries;
}

void hs_hold_down_free(struct hs_hold_down *holds)
{
    free(holds->entries);
}

static struct hs_held_tuple key_of(struct hs_seed seed, const struct hs_tuple *reply,
                                   const struct hs_tuple *original, uint64_t *hash)
{
    struct hs_tuple owner = *original;

    *hash = hs_siphash(seed, reply, sizeof *reply);
    owner.dst_addr = owner.dst_port = 0;
    return (struct hs_held_tuple){
        .fingerprint = (uint32_t)*hash ? (uint32_t)*hash : 1,
        .owner = hs_siphash(seed, &owner, sizeof owner) & 0xfff,
    };
}

static struct hs_held_tuple *set_of(const struct hs_hold_down *holds, uint64_t hash)
{
    return &holds->entries[((hash >> 32) * holds->sets >> 32) * HS_HOLD_WAYS];
}

static uint32_t age_s(const struct hs_held_tuple *entry, uint64_t now_s)
{
    return ((uint32_t)now_s - entry->since_s) & CLOCK_MASK;
}

void hs_hold_down_add(struct hs_hold_down *holds, struct hs_seed seed, const struct hs_tuple *reply,
                      const struct hs_tuple *original, uint64_t now_s)
{
    uint64_t hash;
    struct hs_held_tuple key = key_of(seed, reply, original, &hash);
    struct hs_held_tuple *set = set_of(holds, hash), *chosen = set;

    for (int way = 0; way < HS_HOLD_WAYS; way++) {
        if (!set[way].fingerprint || set[way].fingerprint == key.fingerprint) {
            chosen = &set[way];
            break;
        }
        if (age_s(&set[way], now_s) > age_s(chosen, now_s))
            chosen = &set[way];
    }
    if (chosen->fingerprint && chosen->fingerprint != key.fingerprint &&
        age_s(chosen, now_s) < HS_HOLD_USUAL_S)
        holds->forgotten++;
    key.since_s = now_s & CLOCK_MASK;
    *chosen = key;
}

bool hs_hold_down_covers(const struct hs_hold_down *holds, struct hs_seed seed,
                         const struct hs_tuple *reply, const struct hs_tuple *original,
                         uint32_t seconds, uint64_t now_s)
{
    uint64_t hash;
    struct hs_held_tuple key = key_of(seed, reply, original, &hash);
    const struct hs_held_tuple *set = set_of(holds, hash);

    for (int way = 0; way < HS_HOLD_WAYS; way++)
        if (set[way].fingerprint == key.fingerprint)
            return set[way].owner != key.owner && age_s(&set[way], now_s) < seconds;
    return false;
}
