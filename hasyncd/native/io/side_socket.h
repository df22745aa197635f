/* The AF_PACKET sockets of one side. Before tc ingress one sees all; behind it, where the flow cache's misses come up, one
 * for each protocol.
 */
#ifndef HS_SIDE_SOCKET_H
#define HS_SIDE_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/address6.h"
#include "io/packet_ring.h"

enum { HS_OTHER_DOORS = 2 }; /* beside the first, behind tc ingress: for IPv6 and ARP */

struct hs_side_socket {
    int fd, ifindex;
    int out; /* what leaves goes through it: `fd`, or a door that nothing comes in by */
    int others[HS_OTHER_DOORS]; /* -1: `fd` sees all protocols */
    int watched;                /* readable when any of them is */
    struct hs_packet_ring ring; /* of `fd` */
    uint64_t dropped;           /* what the kernel has told so far */
};

void hs_side_socket_init(struct hs_side_socket *s);

/* Closes what was open; the descriptor to watch, or a negative errno. */
int hs_side_socket_open(struct hs_side_socket *s, int ifindex, bool with_ring, bool behind);
void hs_side_socket_close(struct hs_side_socket *s);

/* Receives what is sent to all nodes and to the solicited-node groups of `addresses` (RFC 4291 2.7.1). 0, or an errno. */
int hs_side_socket_join_groups(const struct hs_side_socket *s, const struct hs_address6 *addresses, uint32_t count);

/* Packets that the kernel had no room for, since the start. */
uint64_t hs_side_socket_dropped(struct hs_side_socket *s);

/* Of a ring, whose reading asks the kernel nothing: 0 or a negative errno (ENETDOWN), and clears it. */
int hs_side_socket_pending_error(const struct hs_side_socket *s);

#endif
