#include "core/siphash.h"

#include <string.h>

#define ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

#define ROUND                                                                                      \
    do {                                                                                           \
        v0 += v1; v1 = ROTATE(v1, 13); v1 ^= v0; v0 = ROTATE(v0, 32);                              \
        v2 += v3; v3 = ROTATE(v3, 16); v3 ^= v2;                                                   \
        v0 += v3; v3 = ROTATE(v3, 21); v3 ^= v0;                                                   \
        v2 += v1; v1 = ROTATE(v1, 17); v1 ^= v2; v2 = ROTATE(v2, 32);                              \
    } while (0)

static uint64_t load64le(const uint8_t *at)
{
    uint64_t value = 0;

    for (int i = 7; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

struct hs_seed hs_seed_load(const uint8_t bytes[16])
{
    return (struct hs_seed){load64le(bytes), load64le(bytes + 8)};
}

uint64_t hs_siphash(struct hs_seed seed, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    uint64_t v0 = seed.k0 ^ 0x736f6d6570736575u, v1 = seed.k1 ^ 0x646f72616e646f6du;
    uint64_t v2 = seed.k0 ^ 0x6c7967656e657261u, v3 = seed.k1 ^ 0x7465646279746573u;
    uint64_t last = (uint64_t)length << 56;
    size_t left = length;

    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word = load64le(at);

        v3 ^= word;
        ROUND;
        ROUND;
        v0 ^= word;
    }
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)at[i] << (8 * i);
    v3 ^= last;
    ROUND;
    ROUND;
    v0 ^= last;
    v2 ^= 0xff;
    for (int i = 0; i < 4; i++)
        ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}
