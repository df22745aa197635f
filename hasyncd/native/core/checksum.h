/* The Internet checksum, whole (RFC 1071) and incremental (RFC 1624 eqn. 3).
 *
 * Sums are kept as 32-bit accumulators of 16-bit words in network order as loaded from memory, so
 * that no byte is swapped on the packet path.
 */
#ifndef HS_CHECKSUM_H
#define HS_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t hs_checksum_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* What replacing `old` by `new` adds to a sum: ~old + new, word by word. */
static inline uint32_t hs_checksum_delta16(uint16_t old, uint16_t new)
{
    return (uint32_t)(uint16_t)~old + new;
}

static inline uint32_t hs_checksum_delta32(uint32_t old, uint32_t new)
{
    return hs_checksum_delta16((uint16_t)(old & 0xffff), (uint16_t)(new & 0xffff)) +
           hs_checksum_delta16((uint16_t)(old >> 16), (uint16_t)(new >> 16));
}

/* A complete checksum after `delta`: c' = ~(~c + delta). */
static inline uint16_t hs_checksum_apply(uint16_t checksum, uint32_t delta)
{
    return (uint16_t)~hs_checksum_fold((uint64_t)(uint16_t)~checksum + delta);
}

/* A partial one (CHECKSUM_PARTIAL: the uncomplemented pseudo-header sum) after `delta`. */
static inline uint16_t hs_checksum_apply_partial(uint16_t checksum, uint32_t delta)
{
    return hs_checksum_fold((uint64_t)checksum + delta);
}

/* The folded, uncomplemented sum of `length` bytes. */
uint16_t hs_checksum_sum(const void *bytes, size_t length);

#endif
