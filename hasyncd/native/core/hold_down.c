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

static uint32_t fingerprint_of(uint64_t hash)
{
    return (uint32_t)hash ? (uint32_t)hash : 1;
}

/* The private end: address, port and protocol. */
static uint32_t owner_of(struct hs_seed seed, const struct hs_tuple *original)
{
    struct hs_tuple owner = *original;

    owner.dst_addr = owner.dst_port = 0;
    return hs_siphash(seed, &owner, sizeof owner) & 0xfff;
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
    uint64_t hash = hs_siphash(seed, reply, sizeof *reply);
    struct hs_held_tuple key = {.fingerprint = fingerprint_of(hash), .owner = owner_of(seed, original) & 0xfff};
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

uint32_t hs_hold_down_left_s(const struct hs_hold_down *holds, struct hs_seed seed, const struct hs_tuple *reply,
                             const struct hs_tuple *original, uint32_t seconds, uint64_t now_s)
{
    uint64_t hash = hs_siphash(seed, reply, sizeof *reply);
    const struct hs_held_tuple *set = set_of(holds, hash);

    for (int way = 0; way < HS_HOLD_WAYS; way++) {
        uint32_t age = age_s(&set[way], now_s);

        if (set[way].fingerprint != fingerprint_of(hash))
            continue;
        if (age >= seconds || (original && owner_of(seed, original) == set[way].owner))
            return 0;
        return seconds - age;
    }
    return 0;
}
