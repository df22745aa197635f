#include "core/address6.h"

bool hs_address6_is_forwardable(const struct hs_address6 *address)
{
    static const uint8_t zeros[16];
    const uint8_t *b = address->bytes;

    if (b[0] == 0xff || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80))
        return false;
    /* ::, ::1, ::ffff:a.b.c.d and the IPv4-compatible ones of old (RFC 4291 §2.5.5.1). */
    return memcmp(b, zeros, 10) != 0 || !((b[10] | b[11]) == 0 || (b[10] & b[11]) == 0xff);
}

bool hs_address6_is_solicited_node(const struct hs_address6 *group, const struct hs_address6 *of)
{
    static const uint8_t prefix[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};

    return memcmp(group->bytes, prefix, 13) == 0 && memcmp(group->bytes + 13, of->bytes + 13, 3) == 0;
}

struct hs_address6 hs_address6_mask(uint32_t length)
{
    struct hs_address6 mask = {{0}};

    memset(mask.bytes, 0xff, length / 8);
    if (length % 8)
        mask.bytes[length / 8] = (uint8_t)(0xff00u >> length % 8);
    return mask;
}

void hs_address6_apply_mask(struct hs_address6 *address, const struct hs_address6 *mask)
{
    for (int i = 0; i < 16; i++)
        address->bytes[i] &= mask->bytes[i];
}

bool hs_prefix6_covers(const struct hs_prefix6 *prefix, const struct hs_address6 *address)
{
    uint64_t want[2], mask[2], got[2];

    memcpy(want, &prefix->address, 16);
    memcpy(mask, &prefix->mask, 16);
    memcpy(got, address, 16);
    return (got[0] & mask[0]) == want[0] && (got[1] & mask[1]) == want[1];
}

bool hs_prefixes6_match(const struct hs_prefixes6 *prefixes, const struct hs_address6 *address)
{
    for (uint32_t i = 0; i < prefixes->count; i++)
        if (hs_prefix6_covers(&prefixes->list[i], address))
            return true;
    return false;
}

static uint32_t fold(uint64_t hash)
{
    return (uint32_t)hash ? (uint32_t)hash : 1;
}

uint32_t hs_address6_fold(struct hs_seed seed, const struct hs_address6 *address)
{
    return fold(hs_siphash(seed, address, sizeof *address));
}

uint32_t hs_address6_fold_source(struct hs_seed seed, const struct hs_address6 *address)
{
    return fold(hs_siphash(seed, address, 8));
}
