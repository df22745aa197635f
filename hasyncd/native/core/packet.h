/* One IP packet in an Ethernet frame: found, named by a tuple, rewritten in place. IPv6's own is in core/ipv6.h.
 *
 * `struct hs_vnet` is virtio_net_hdr (10 bytes, host order), which AF_PACKET hands up and takes back
 * with PACKET_VNET_HDR: GSO packets stay whole and partial checksums partial.
 */
#ifndef HS_PACKET_H
#define HS_PACKET_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/address6.h"
#include "core/tuple.h"

enum hs_ethertype { HS_ETHERTYPE_IPV4 = 0x0800, HS_ETHERTYPE_ARP = 0x0806, HS_ETHERTYPE_IPV6 = 0x86dd };

struct hs_vnet {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

_Static_assert(sizeof(struct hs_vnet) == 10, "virtio_net_hdr");

enum hs_vnet_flags { HS_VNET_NEEDS_CSUM = 1, HS_VNET_DATA_VALID = 2 };

struct hs_ethernet {
    uint8_t dst[6], src[6];
    uint16_t type;
} __attribute__((packed));

struct hs_ipv4 {
    uint8_t version_ihl, tos;
    uint16_t total_length, id, fragment;
    uint8_t ttl, proto;
    uint16_t checksum;
    uint32_t src_addr, dst_addr;
} __attribute__((packed));

struct hs_ipv6 {
    uint32_t version_class_label;
    uint16_t payload_length; /* extension headers included */
    uint8_t next_header, hop_limit;
    struct hs_ends6 ends;
} __attribute__((packed));

struct hs_icmp {
    uint8_t type, code;
    uint16_t checksum, id, sequence;
} __attribute__((packed));

enum hs_icmp_type {
    HS_ECHO_REPLY = 0,
    HS_UNREACHABLE = 3,
    HS_ECHO_REQUEST = 8,
    HS_TIME_EXCEEDED = 11,
    HS_PARAMETER_PROBLEM = 12,
};

enum hs_icmp_code { HS_FRAGMENTATION_NEEDED = 4, HS_PROHIBITED = 13 };

enum hs_packet_kind {
    HS_PACKET_FLOW,       /* TCP, UDP or echo, with `tuple` */
    HS_PACKET_ICMP_ERROR, /* quotes a packet of ours, with the quoted packet's tuple */
    HS_PACKET_FRAGMENT,
    HS_PACKET_MALFORMED,
    HS_PACKET_OTHER,      /* another protocol or ICMP message */
    HS_PACKET_NEIGHBOUR,  /* IPv6 neighbour discovery: never forwarded */
    HS_PACKET_EXTENSION,  /* IPv6 extension headers that no gateway should pass on */
};

struct hs_packet {
    uint8_t *frame;
    struct hs_ipv4 *ip;   /* NULL: IPv6 */
    struct hs_ipv6 *ip6;  /* NULL: IPv4 */
    uint8_t *l4;
    uint32_t l4_length;
    struct hs_vnet *vnet;
    struct hs_tuple tuple;
    uint8_t tcp_flags, icmp_type; /* echoes have IPv4's types in both families */
    struct hs_ipv4 *inner; /* of an ICMP error */
    bool hairpin;          /* leaves by the side that it came in by */
    uint8_t direction;     /* of its flow, once it is rewritten */
    struct hs_ipv6 *inner6;
    uint8_t *inner6_l4;
    uint8_t *fragment6;    /* the fragment header, unless it is alone (RFC 6946) */
};

enum hs_packet_kind hs_packet_parse(struct hs_packet *p, struct hs_vnet *vnet, uint8_t *frame,
                                    uint32_t length);

/* Bytes of IP. */
static inline uint32_t hs_packet_ip_length(const struct hs_packet *p)
{
    return p->ip ? ntohs(p->ip->total_length) : (uint32_t)sizeof *p->ip6 + ntohs(p->ip6->payload_length);
}

/* Whether an address (network order) can be one host's: not this network, loopback, multicast, reserved or broadcast
 * (RFC 6890). */
static inline bool hs_ipv4_is_host(uint32_t address)
{
    uint32_t first = ntohl(address) >> 24;

    return first != 0 && first != 127 && first < 224;
}

/* Bytes of the frame that are packet: padding behind the IP length is not passed on. */
static inline uint32_t hs_packet_frame_length(const struct hs_packet *p)
{
    return (uint32_t)sizeof(struct hs_ethernet) + hs_packet_ip_length(p);
}

/* Reads the ports of a first fragment, which holds its whole layer-4 header or is refused (RFC 1858). */
bool hs_packet_parse_first_fragment(struct hs_packet *p);

/* Another source and destination for a later fragment, which carries no layer-4 header. */
void hs_packet_rewrite_addresses(struct hs_packet *p, uint32_t src_addr, uint32_t dst_addr);

/* Makes the packet look like `to`, checksums included (partial ones stay partial). */
void hs_packet_rewrite(struct hs_packet *p, const struct hs_tuple *to);

/* The layer-4 checksum after address words changed by `addresses` and port words by `ports`. */
void hs_packet_fix_checksum(struct hs_packet *p, uint32_t addresses, uint32_t ports);

/* Whether a flow may begin with it: a SYN, a datagram, an echo request. */
bool hs_packet_is_first(const struct hs_packet *p);
/* An ACK alone: of a connection that began elsewhere. */
bool hs_packet_may_be_picked_up(const struct hs_packet *p);

/* The sequence number behind a TCP segment: data, SYN and FIN counted. */
uint32_t hs_packet_sequence_end(const struct hs_packet *p);

/* Decrements the TTL; the caller made sure that it is above 1. */
void hs_packet_decrement_ttl(struct hs_packet *p);
/* Takes that back. */
void hs_packet_restore_ttl(struct hs_packet *p);

#endif
