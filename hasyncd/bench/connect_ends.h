/* Both ends of many TCP connections, as two BPF programs at the ends' interfaces (tcx ingress, Linux 6.6).
 *
 *     client                      gateway                      server
 *       SYN        (sent by the caller) ----------------------->  answers
 *       confirms <---------------------------------------------- SYN, ACK
 *       ACK        -------------------------------------------->  counts an established connection
 *       RST        -------------------------------------------->
 *
 * No sockets: an end costs a fraction of a microsecond a packet, so that it is the gateway that is measured.
 * Every frame stays CHECKSUM_PARTIAL, as between sockets on veth, so that a reply needs no checksum: the pseudo
 * header's sum does not mind which address comes first.
 */
#ifndef HS_CONNECT_ENDS_H
#define HS_CONNECT_ENDS_H

#include <stdint.h>

/* Where fields of an Ethernet, IPv4 (no options), TCP frame lie. */
enum {
    AT_MAC_DST = 0, AT_MAC_SRC = 6, AT_ETHERTYPE = 12,
    AT_IP = 14, AT_IP_LENGTH = 16, AT_TTL = 22, AT_PROTOCOL = 23, AT_IP_CHECKSUM = 24, AT_IP_SRC = 26, AT_IP_DST = 30,
    AT_TCP = 34, AT_PORT_SRC = 34, AT_PORT_DST = 36, AT_SEQUENCE = 38, AT_ACK = 42, AT_DATA_OFFSET = 46,
    AT_FLAGS = 47, AT_WINDOW = 48, AT_TCP_CHECKSUM = 50,
    FRAME_LENGTH = 54,
};
enum { TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };

/* What the ends count, each in its own cache line. */
enum connect_count {
    ANSWERED,    /* SYNs that reached the server */
    CONFIRMED,   /* its answers that reached the client */
    ESTABLISHED, /* ACKs that reached the server and acknowledge what it sent */
    RESETS, /* RSTs that reached the server */
    WRONG,       /* packets that belong to no connection of ours */
    CONNECT_COUNTS,
};
enum { COUNT_STRIDE = 8 }; /* 64-bit words from one count to the next */

struct connect_ends {
    volatile uint64_t *counts; /* shared with the programs */
    int map;
};

/* Opens the map of counts. -1 with errno. */
int connect_ends_open(struct connect_ends *ends);
/* Attaches an end to an interface of the current network namespace; it is detached when the process ends. -1
 * with errno; EINVAL where the kernel has no tcx. */
int connect_ends_attach_server(const struct connect_ends *ends, int ifindex);
int connect_ends_attach_client(const struct connect_ends *ends, int ifindex);

static inline uint64_t connect_ends_count(const struct connect_ends *ends, enum connect_count which)
{
    return __atomic_load_n(&ends->counts[which * COUNT_STRIDE], __ATOMIC_RELAXED);
}

#endif
