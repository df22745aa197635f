/* What may pass: VIPs, services, NAT rules and, in IPv6, pass rules. Everything else is dropped (default deny).
 *
 * Addresses are in network order, prefixes as (address, mask). What looks IPv6 rules up is in core/rules6.h.
 */
#ifndef HS_RULES_H
#define HS_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/address6.h"
#include "core/limits.h"
#include "core/prefixes.h"
#include "core/service.h"
#include "core/tuple.h"

/* Host order, inclusive. */
struct hs_port_range {
    uint16_t first, last;
};

struct hs_nat_rule {
    struct hs_prefixes sources, destinations; /* no destinations: any */
    uint32_t publics[HS_PUBLICS_MAX];
    uint32_t public_count;
    uint16_t port_first, port_last; /* host order, inclusive */
    struct hs_prefixes exempt;      /* destinations to which the source goes untranslated */
    struct hs_port_range reserved[HS_RESERVED_MAX];
    uint32_t reserved_count;
    uint32_t max_flows_per_source; /* 0: no limit */
    uint32_t hold_down_s;
    bool preserve_parity;    /* UDP: even to even, odd to odd (RFC 4787 REQ-4) */
    bool port_classes;       /* below 1024 to below 1024 (RFC 4787 REQ-3 a) */
    bool icmp_on_exhaustion; /* else silent */
    bool log;                /* its mappings, core/mapping_log.h */
    enum hs_commit commit;
};

/* A way in: a public address and port is an inside host's; 1:1 (proto 0) a whole address is, both ways. */
struct hs_forward {
    uint32_t public, inside;
    uint16_t public_port, inside_port; /* network order; 0: 1:1 */
    uint8_t proto;
    struct hs_prefixes allow;
    enum hs_commit commit;
};

struct hs_vip {
    uint32_t address;
    uint8_t side;
};

struct hs_vip6 {
    struct hs_address6 address;
    uint8_t side;
};

/* Plain IPv6 forwarding: untranslated, tracked, opened from inside. */
struct hs_pass {
    struct hs_prefixes6 sources, destinations; /* no destinations: any */
    bool inbound;                              /* opened from outside too, by a destination to a source */
    enum hs_commit commit;
};

/* What an operator may choose about flows. All zero: no cap per source, no pick-up, nobody is dropped early. */
struct hs_policy {
    uint32_t half_open_per_source; /* 0: only the cap for all */
    bool loose;                    /* an ACK without a flow makes one, where that leads to the same host */
    bool early_drop;               /* a full table drops flows that are unanswered or over */
};

struct hs_rules {
    struct hs_vip vips[HS_VIPS_MAX];
    struct hs_service services[HS_SERVICES_MAX];
    struct hs_nat_rule nat[HS_NAT_RULES_MAX];
    struct hs_forward forwards[HS_FORWARDS_MAX];
    uint32_t vip_count, service_count, nat_count, forward_count;
    struct hs_vip6 vips6[HS_VIPS_MAX];
    struct hs_pass passes[HS_PASSES_MAX];
    uint32_t vip6_count, pass_count;
};

void hs_rules_free(struct hs_rules *rules);

bool hs_rules_is_vip(const struct hs_rules *rules, uint32_t address);
/* A VIP, or a public address of a NAT rule, a forward or a 1:1 mapping: nobody but this pair sends from it. */
bool hs_rules_is_own(const struct hs_rules *rules, uint32_t address);
bool hs_rules_is_vip_on(const struct hs_rules *rules, uint32_t address, int side);

/* Index of the service at an address and port, or -1. */
int hs_rules_find_service(const struct hs_rules *rules, uint32_t address, uint16_t port,
                          uint8_t proto);

/* The way in at an address and port, or NULL. */
const struct hs_forward *hs_rules_find_forward(const struct hs_rules *rules, uint32_t address,
                                               uint16_t port, uint8_t proto);

/* The 1:1 mapping of an inside host, or NULL. */
const struct hs_forward *hs_rules_find_own_public(const struct hs_rules *rules, uint32_t inside);

/* Index of the first NAT rule for a packet, or -1. */
int hs_rules_find_nat(const struct hs_rules *rules, const struct hs_tuple *tuple);

#endif
