/* SipHash-2-4 (Aumasson, Bernstein 2012): seeded, so that nobody outside can aim at a bucket. */
#ifndef HS_SIPHASH_H
#define HS_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct hs_seed {
    uint64_t k0, k1;
};

struct hs_seed hs_seed_load(const uint8_t bytes[16]);
uint64_t hs_siphash(struct hs_seed seed, const void *bytes, size_t length);

#endif
