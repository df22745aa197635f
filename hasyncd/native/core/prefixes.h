/* Lists of IPv4 prefixes: whom a rule speaks of. Addresses and masks are in network order. */
#ifndef HS_PREFIXES_H
#define HS_PREFIXES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/limits.h"

struct hs_prefix {
    uint32_t address, mask;
};

struct hs_prefixes {
    uint32_t count;
    struct hs_prefix list[HS_PREFIXES_MAX];
};

bool hs_prefixes_match(const struct hs_prefixes *prefixes, uint32_t address);

#endif
