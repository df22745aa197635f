/* The rules for IPv6: VIPs, services, and what may pass untranslated. */
#ifndef HS_RULES6_H
#define HS_RULES6_H

#include "core/rules.h"

bool hs_rules6_is_vip(const struct hs_rules *rules, const struct hs_address6 *address);
bool hs_rules6_is_vip_on(const struct hs_rules *rules, const struct hs_address6 *address, int side);

/* The address of ours that speaks on a side: its own VIP, or else any; NULL: we have none. */
const struct hs_address6 *hs_rules6_own_address(const struct hs_rules *rules, int side);

/* Index of the service at an address and port, or -1. */
int hs_rules6_find_service(const struct hs_rules *rules, const struct hs_address6 *address, uint16_t port,
                           uint8_t proto);

/* The first pass rule that lets a flow be opened from `side`, or NULL. */
const struct hs_pass *hs_rules6_find_pass(const struct hs_rules *rules, const struct hs_ends6 *ends, int side);

#endif
