/* SipHash (Aumasson, Bernstein 2012): seeded, so that nobody outside can aim at a bucket.
 *
 * Two forms. SipHash-2-4 for whatever both nodes must agree on (digests, rings, port choices). SipHash-1-3 for the
 * flow table's own index, which is asked with every packet and never shown: what the kernel (hsiphash), Rust and
 * Python use for their tables; inline, and for 16 bytes only.
 */
#ifndef HS_SIPHASH_H
#define HS_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hs_seed {
    uint64_t k0, k1;
};

struct hs_seed hs_seed_load(const uint8_t bytes[16]);
uint64_t hs_siphash(struct hs_seed seed, const void *bytes, size_t length);

static inline uint64_t hs_load64le(const void *at)
{
    uint64_t value;

    memcpy(&value, at, 8);
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(value) : value;
}

static inline uint64_t hs_rotate64(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void hs_sip_begin(uint64_t v[4], struct hs_seed seed)
{
    v[0] = seed.k0 ^ 0x736f6d6570736575u;
    v[1] = seed.k1 ^ 0x646f72616e646f6du;
    v[2] = seed.k0 ^ 0x6c7967656e657261u;
    v[3] = seed.k1 ^ 0x7465646279746573u;
}

static inline void hs_sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = hs_rotate64(v[1], 13) ^ v[0], v[0] = hs_rotate64(v[0], 32);
    v[2] += v[3], v[3] = hs_rotate64(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = hs_rotate64(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = hs_rotate64(v[1], 17) ^ v[2], v[2] = hs_rotate64(v[2], 32);
}

/* SipHash-1-3 of 16 bytes. */
static inline uint64_t hs_siphash_1_3(struct hs_seed seed, const void *bytes)
{
    const uint64_t words[3] = {hs_load64le(bytes), hs_load64le((const uint8_t *)bytes + 8), 16ull << 56};
    uint64_t v[4];

    hs_sip_begin(v, seed);
    for (int i = 0; i < 3; i++) {
        v[3] ^= words[i];
        hs_sip_round(v);
        v[0] ^= words[i];
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        hs_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
