/* What the kernel's cache of established flows holds: the layout that the BPF program (tc/flow_cache.bpf.c), whoever fills
 * its maps (io/flow_cache.c) and whoever decides what is in them (core/offload.c) agree on.
 *
 * A direction of a flow has one entry, found by the tuple that its packets come with. Fields are in network order where a
 * packet's are; sums are ones' complement differences of 16-bit words in memory order (RFC 1624). No padding: map values
 * are compared and copied as bytes.
 */
#ifndef HS_CACHED_FLOW_H
#define HS_CACHED_FLOW_H

#include <stdint.h>

enum hs_cache_limits {
    HS_CACHE_MARK = 0x68617379, /* "hasy": the skb mark of what is for the engine's sockets and nobody else */
    HS_CACHE_SIDES = 2,
    HS_CACHE_SEEN_NS = 1000000, /* how old `seen_ns` may be before it is written anew */
    HS_CACHE_LEAP = 1 << 20,    /* HS_SEQUENCE_LEAP of tcp_sequence.h */
    HS_CACHE_GATES = 1 << 18,   /* as many as there can be backends: HS_SERVICES_MAX * HS_BACKENDS_MAX */
};

/* The keys; an IPv4 one is a struct hs_tuple. */
struct hs_cache_key {
    uint32_t src_addr, dst_addr;
    uint16_t src_port, dst_port;
    uint8_t proto, zero[3];
};

struct hs_cache_key6 {
    uint32_t src_addr[4], dst_addr[4];
    uint16_t src_port, dst_port;
    uint8_t proto, zero[3];
};

/* What to make of the packet, and where it goes. */
struct hs_cache_way {
    uint32_t comes_by, leaves_by; /* interfaces; a packet that comes by another is not a hit */
    uint16_t mtu;                 /* bytes of IP, of `leaves_by` */
    uint16_t side;                /* of `comes_by`; here, as without CAP_PERFMON no pointer may be one of two */
    uint32_t use;                 /* its place among the uses */
    uint32_t epoch;               /* as in hs_cache_control, or it is not a hit */
    uint32_t gate;                /* its backend's; HS_CACHE_GATES: it has none */
    uint32_t addresses_sum, ports_sum;
    uint16_t src_port, dst_port;
};

struct hs_cache_entry {
    struct hs_cache_way way;
    uint32_t src_addr, dst_addr, next_hop;
};

struct hs_cache_entry6 {
    struct hs_cache_way way;
    uint32_t src_addr[4], dst_addr[4], next_hop[4];
};

/* What one direction was used for; shared memory, written by the program, counts taken by the engine. The directions of a
 * flow lie `capacity` places apart, so that two CPUs do not share a line. */
struct hs_cache_use {
    uint64_t packets, bytes;
    uint64_t last_ns;      /* CLOCK_BOOTTIME; 0: nothing came */
    uint32_t sequence;     /* TCP: where its data ended, if `has_sequence` */
    uint32_t has_sequence;
};

/* One store mutes everything: a lease that is over, or another epoch; another one the flows of a backend: its bit. */
struct hs_cache_control {
    uint64_t lease_until_ns; /* CLOCK_BOOTTIME */
    uint64_t generation;     /* of the pair, to be read by people */
    uint32_t ifindex[HS_CACHE_SIDES];
    uint32_t epoch, zero;
    uint8_t another_line[32];
    uint64_t seen_ns[HS_CACHE_SIDES][2]; /* when a hit of IPv4, of IPv6, came in */
    uint64_t closed[HS_CACHE_GATES / 64]; /* gates */
};

/* What the program counts on each CPU; `hits` were redirected, all others went up. */
#define HS_CACHE_COUNTERS_LIST(X)                                                                                      \
    X(hits)                                                                                                            \
    X(hit_bytes)                                                                                                       \
    X(no_lease)      /* the lease is over */                                                                           \
    X(miss_flow)     /* TCP or UDP of no flow that is here */                                                          \
    X(miss_flags)    /* SYN, FIN, RST, or no ACK */                                                                    \
    X(miss_other)    /* another protocol, a fragment, options, TTL 1, a header that is not whole */                    \
    X(miss_too_big)  /* for the next link */                                                                           \
    X(miss_epoch)    /* the entry is of another epoch */                                                               \
    X(miss_backend)  /* which is down, or was removed */                                                               \
    X(kept)          /* from the kernel's stack: misses that are the engine's */

struct hs_cache_counters {
#define HS_CACHE_FIELD(name) uint64_t name;
    HS_CACHE_COUNTERS_LIST(HS_CACHE_FIELD)
#undef HS_CACHE_FIELD
};

/* Whose an address is: values of a longest-prefix map, IPv4 as ::ffff:0:0/96. What a wider prefix says holds in a narrower
 * one too: whoever fills the map adds it. The order of judgement is that of datapath/classic_bpf.py. */
enum hs_cache_whose {
    HS_WHOSE_HOST = 1,    /* the machine's own */
    HS_WHOSE_OWNED = 2,   /* VIPs, public addresses */
    HS_WHOSE_GROUP = 4,   /* many: as a destination the kernel's, which does not forward those */
    HS_WHOSE_LINK = 8,    /* link-local: the kernel's at either end */
    HS_WHOSE_PRIVATE = 16, /* private networks and backends */
};

struct hs_cache_prefix {
    uint32_t length; /* bits */
    uint32_t address[4];
};

#endif
