/* Weighted rendezvous hashing (Thaler, Ravishankar 1998; weights after Schindelhauer, Schomaker 2005): each bucket
 * belongs to the member with the highest score weight / -log2(u), u its hash with the bucket in (0, 1]. So a member
 * that leaves gives away its own buckets alone, each to the next in score, and a change of weight moves the least that
 * can be moved.
 *
 * Logarithms in fixed point: both nodes have to agree to the last bit, and two C libraries need not.
 */
#include <stdlib.h>

#include "core/backend_table.h"
#include "core/siphash.h"

/* Public on purpose, as the ring's. */
static const struct hs_seed member_seed = {0x686173796e636421u, 0x72656e64657a7631u};

enum {
    STEPS_LOG2 = 11,      /* of the table of logarithms; between two of them a straight line, off by 4e-8 at most */
    FRACTION_BITS = 40,   /* of a logarithm */
    HASH_BITS = 32,
};

/* log2(x), 1 <= x <= 2, both with FRACTION_BITS, digit by digit: squaring doubles a logarithm. */
static uint64_t log2_slowly(uint64_t x)
{
    uint64_t result = 0;

    if (x >> FRACTION_BITS > 1)
        return (uint64_t)1 << FRACTION_BITS;
    for (int bit = FRACTION_BITS - 1; bit >= 0; bit--) {
        x = (uint64_t)((unsigned __int128)x * x >> FRACTION_BITS);
        if (x >> FRACTION_BITS > 1) {
            x >>= 1;
            result |= (uint64_t)1 << bit;
        }
    }
    return result;
}

struct logarithms {
    uint64_t at[(1 << STEPS_LOG2) + 1];
};

static void fill_logarithms(struct logarithms *logarithms)
{
    for (uint32_t i = 0; i <= 1u << STEPS_LOG2; i++)
        logarithms->at[i] = log2_slowly(((uint64_t)1 << FRACTION_BITS) + ((uint64_t)i << (FRACTION_BITS - STEPS_LOG2)));
}

/* -log2(value / 2**32), value >= 1: the smaller, the nearer to 1. Never 0: the highest hash counts as the next one. */
static uint64_t distance(const struct logarithms *logarithms, uint32_t value)
{
    uint32_t top = 31 - (uint32_t)__builtin_clz(value);
    uint64_t mantissa = (uint64_t)value << (HASH_BITS - 1 - top) & INT32_MAX; /* 31 bits below the leading one */
    uint32_t step = (uint32_t)(mantissa >> (HASH_BITS - 1 - STEPS_LOG2));
    uint64_t within = mantissa & ((1u << (HASH_BITS - 1 - STEPS_LOG2)) - 1);
    uint64_t low = logarithms->at[step], high = logarithms->at[step + 1];
    uint64_t logarithm = low + ((high - low) * within >> (HASH_BITS - 1 - STEPS_LOG2));

    return ((uint64_t)HASH_BITS << FRACTION_BITS) - ((uint64_t)top << FRACTION_BITS) - logarithm;
}

/* splitmix64's finalizer (Steele, Lea, Flood 2014): the member's part is keyed and computed once. */
static uint32_t mix(uint64_t member, uint32_t bucket)
{
    uint64_t z = member + (uint64_t)(bucket + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (uint32_t)(z >> 32) ? (uint32_t)(z >> 32) : 1;
}

int hs_rendezvous_fill(uint16_t *buckets, const struct hs_ring_server *members, uint32_t count)
{
    uint64_t *keys = calloc(count, sizeof *keys);
    struct logarithms *logarithms = malloc(sizeof *logarithms);

    if (!keys || !logarithms) {
        free(keys);
        free(logarithms);
        return -1;
    }
    fill_logarithms(logarithms);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t name[4] = {(uint8_t)(members[i].server_id >> 24), (uint8_t)(members[i].server_id >> 16),
                           (uint8_t)(members[i].server_id >> 8), (uint8_t)members[i].server_id};

        keys[i] = hs_siphash(member_seed, name, sizeof name);
    }
    for (uint32_t bucket = 0; bucket < HS_ECMP_BUCKETS; bucket++) {
        uint64_t nearest = distance(logarithms, mix(keys[0], bucket));
        uint32_t best = 0;

        for (uint32_t i = 1; i < count; i++) {
            uint64_t far = distance(logarithms, mix(keys[i], bucket));

            /* weight / distance is larger; 16 bits by 46 fit in 64. Alike: the lower id. */
            if (members[i].weight * nearest > members[best].weight * far) {
                nearest = far;
                best = i;
            }
        }
        buckets[bucket] = (uint16_t)best;
    }
    free(keys);
    free(logarithms);
    return 0;
}
