/* Every limit and timeout of the core, with its unit and its source. */
#ifndef HS_LIMITS_H
#define HS_LIMITS_H

enum hs_side { HS_NO_SIDE = -1, HS_INSIDE = 0, HS_OUTSIDE = 1, HS_SIDES = 2 };

enum hs_limits {
    HS_CAPACITY_MAX = 8 << 20,      /* flows */
    HS_VIPS_MAX = 64,
    HS_SERVICES_MAX = 256,
    HS_BACKENDS_MAX = 1024,         /* of one service, those that left and have flows included */
    HS_PLACE_SLOTS = 4 * HS_BACKENDS_MAX, /* of the index of their places, a power of two */
    HS_VNODES_MAX = 16 << 20,       /* of one ring */
    HS_PREFIXES_MAX = 64,           /* sources, destinations or an allow list of one rule */
    HS_PUBLICS_MAX = 64,            /* public addresses of one NAT rule */
    HS_NAT_RULES_MAX = 64,
    HS_NAT_PROBES = 8,              /* reply tuples tried from the preferred port on */
    HS_BLOCK_PROBES = 16,           /* and at random in a block of ports before its bitmap is made */
    HS_RESERVED_MAX = 64,           /* port ranges of one NAT rule that are never given out */
    HS_FORWARDS_MAX = 256,          /* port forwards and 1:1 mappings */
    HS_ROUTES_MAX = 4096,
    HS_UNRESOLVED_PACKETS = 1024,   /* waiting for a neighbour, 1 MiB: 20 ms of 50,000 packets a second */
    HS_NEIGHBOURS = 4096,           /* slots of the mirror, a power of two */
    HS_PASSES_MAX = 64,             /* rules of plain IPv6 forwarding */
    HS_FRAME_MAX = 14 + 40 + 65535, /* bytes: an Ethernet header and the largest IP packet, an IPv6 one */
    HS_IPV6_MTU_MIN = 1280,         /* RFC 8200 §5 */
    HS_EXTENSION_HEADERS_MAX = 8,   /* of one packet: more only cost time */
    HS_LOOK_AHEAD = 64,             /* frames of a batch that are looked at before the first is judged */
    HS_HALF_OPEN_DIVISOR = 4,       /* at most capacity / 4 flows are half-open */
    HS_ICMP_ERRORS_PER_S = 1000,    /* made by us, as net.ipv4.icmp_msgs_per_sec */
    HS_ICMP_ERRORS_BURST = 50,
    HS_NAT_EVICT_PROBES = 128,      /* closing connections looked for when every port is taken */
    HS_EARLY_DROP_PROBES = 64,      /* slots looked at for a flow that may be dropped early */
    HS_AGE_BITE = 4096,             /* looks at flows in one bite of ageing; 0.5 ms at most */
    HS_AGE_END = 4,                 /* looks that the end of a flow counts for */
    HS_AGE_BITES = 8,               /* of one tick: 8,192 ends, or 32,768 looks */
    HS_SNAPSHOT_BITE = 16384,       /* grains of 16 slots that a sync's cursor looks at in one go */
    HS_OFFER_BITE = 4096,           /* times 64 slots, that an offer's cursor looks at in one go */
    HS_SCRUB_BITE = 256,            /* grains that one tick counts anew; 0.1 ms */
    HS_END_BITE = 1024,             /* flows of a backend that end in one bite; 0.5 ms */
    HS_RESET_BITE = 64,             /* the same where their ends are told: two system calls each */
    HS_LATE_SYN = 65535,            /* a SYN whose number is no further behind its direction's data is a copy */
    HS_WHEEL_SECONDS = 8192,        /* longer than every timeout, a power of two */
};

/* Seconds. RFC 5382 REQ-5 (2 h 4 min, 4 min), RFC 4787 REQ-5 (5 min recommended), RFC 5508 REQ-2 (60 s). */
enum hs_timeouts {
    HS_TCP_ESTABLISHED_S = 7440,
    HS_TCP_TRANSITORY_S = 240,
    HS_TCP_HALF_OPEN_S = 30,        /* half-open flows while half of those that may be are there (RFC 7857 §2.1) */
    HS_UDP_S = 300,
    HS_ICMP_S = 60,
    HS_TAKEOVER_GRACE_S = 120,      /* proto/pair.md §4: nothing ages out sooner after a promotion */
    HS_REFRESH_S_MAX = 30,          /* an active flow's timeout is told to the peer this often at least */
    HS_FRAGMENT_S = 15,             /* a first fragment speaks for the others so long (RFC 791 §3.2) */
    HS_FRAGMENT_WAIT_S = 2,         /* others wait for it so long */
    HS_CLOSED_S = 240,              /* an end of a connection that was reset is told again, if it goes on, so long */
    HS_UNRESOLVED_MS = 1000,        /* a packet waits this long for its neighbour */
};

#endif
