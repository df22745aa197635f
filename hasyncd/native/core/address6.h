/* IPv6 addresses: 16 bytes in network order, as they lie in a header (RFC 4291). */
#ifndef HS_ADDRESS6_H
#define HS_ADDRESS6_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/limits.h"
#include "core/siphash.h"

struct hs_address6 {
    uint8_t bytes[16];
};

/* Source and destination, in the header's order. */
struct hs_ends6 {
    struct hs_address6 src, dst;
};

struct hs_prefix6 {
    struct hs_address6 address, mask;
};

struct hs_prefixes6 {
    uint32_t count;
    struct hs_prefix6 list[HS_PREFIXES_MAX];
};

static inline bool hs_address6_equal(const struct hs_address6 *a, const struct hs_address6 *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static inline bool hs_address6_is_zero(const struct hs_address6 *a)
{
    static const struct hs_address6 zero;

    return hs_address6_equal(a, &zero);
}

static inline bool hs_address6_is_multicast(const struct hs_address6 *a)
{
    return a->bytes[0] == 0xff;
}

static inline struct hs_ends6 hs_ends6_invert(const struct hs_ends6 *ends)
{
    return (struct hs_ends6){ends->dst, ends->src};
}

/* One host's, and meant beyond its link: not unspecified, loopback, IPv4-mapped, link-local or multicast. */
bool hs_address6_is_forwardable(const struct hs_address6 *address);

/* The solicited-node group (RFC 4291 §2.7.1) is ff02::1:ff and the address's last three bytes. */
bool hs_address6_is_solicited_node(const struct hs_address6 *group, const struct hs_address6 *of);

/* The mask of a prefix of `length` bits, 0 to 128. */
struct hs_address6 hs_address6_mask(uint32_t length);
void hs_address6_apply_mask(struct hs_address6 *address, const struct hs_address6 *mask);
bool hs_prefix6_covers(const struct hs_prefix6 *prefix, const struct hs_address6 *address);
bool hs_prefixes6_match(const struct hs_prefixes6 *prefixes, const struct hs_address6 *address);

/* What stands for an address in a tuple: 32 keyed bits, never 0. Two addresses may share one. */
uint32_t hs_address6_fold(struct hs_seed seed, const struct hs_address6 *address);
/* The same of its /64: what one sender has at least (RFC 6177), and so what is counted as one source. */
uint32_t hs_address6_fold_source(struct hs_seed seed, const struct hs_address6 *address);

#endif
