/* One IPv4 packet in an Ethernet frame: found, named by a tuple, rewritten in place.
 *
 * `struct hs_vnet` is virtio_net_hdr (10 bytes, host order), which AF_PACKET hands up and takes back
 * with PACKET_VNET_HDR: GSO packets stay whole and partial checksums partial.
 */
#ifndef HS_PACKET_H
#define HS_PACKET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/tuple.h"

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
};

struct hs_packet {
    uint8_t *frame;
    struct hs_ipv4 *ip;
    uint8_t *l4;
    uint32_t l4_length;
    struct hs_vnet *vnet;
    struct hs_tuple tuple;
    uint8_t tcp_flags, icmp_type;
    struct hs_ipv4 *inner; /* of an ICMP error */
    bool hairpin;          /* leaves by the side that it came in by */
};

enum hs_packet_kind hs_packet_parse(struct hs_packet *p, struct hs_vnet *vnet, uint8_t *frame,
                                    uint32_t length);

/* Bytes of the frame that are packet: padding behind the IPv4 length is not passed on. */
uint32_t hs_packet_frame_length(const struct hs_packet *p);

/* Reads the ports of a first fragment, which holds its whole layer-4 header or is refused (RFC 1858). */
bool hs_packet_parse_first_fragment(struct hs_packet *p);

/* Another source and destination for a later fragment, which carries no layer-4 header. */
void hs_packet_rewrite_addresses(struct hs_packet *p, uint32_t src_addr, uint32_t dst_addr);

/* Makes the packet look like `to`, checksums included (partial ones stay partial). */
void hs_packet_rewrite(struct hs_packet *p, const struct hs_tuple *to);

/* The sequence number behind a TCP segment: data, SYN and FIN counted. */
uint32_t hs_packet_sequence_end(const struct hs_packet *p);

/* Decrements the TTL; the caller made sure that it is above 1. */
void hs_packet_decrement_ttl(struct hs_packet *p);

#endif
