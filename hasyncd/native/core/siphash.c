#include "core/siphash.h"

struct hs_seed hs_seed_load(const uint8_t bytes[16])
{
    return (struct hs_seed){hs_load64le(bytes), hs_load64le(bytes + 8)};
}

static void absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    hs_sip_round(v);
    hs_sip_round(v);
    v[0] ^= word;
}

uint64_t hs_siphash(struct hs_seed seed, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    uint64_t last = (uint64_t)length << 56, v[4];
    size_t left = length;

    hs_sip_begin(v, seed);
    for (; left >= 8; left -= 8, at += 8)
        absorb(v, hs_load64le(at));
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)at[i] << (8 * i);
    absorb(v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        hs_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
