/* An AF_PACKET socket as it is made: its filter, its buffers, its ring, and only then its interface. */
#ifndef HS_PACKET_DOOR_H
#define HS_PACKET_DOOR_H

#include <stdint.h>

#include "io/packet_ring.h"

/* A socket for frames of `protocol` (host order) that come in by the interface: ETH_P_ALL sees them before tc ingress, others
 * after it, 0 none at all. `ring` is mapped, or NULL. Its descriptor, or a negative errno. */
int hs_packet_door_open(int ifindex, uint16_t protocol, struct hs_packet_ring *ring);

#endif
