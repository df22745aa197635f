/* A receive ring shared with the kernel (TPACKET_V2, Documentation/networking/packet_mmap.rst): small packets need
 * no system call. A packet too large for its slot is marked and waits whole in the socket's queue, in order
 * (PACKET_COPY_THRESH).
 */
#ifndef HS_PACKET_RING_H
#define HS_PACKET_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/packet.h"

struct hs_packet_ring {
    uint8_t *slots; /* NULL: there is no ring */
    uint32_t next;
};

enum hs_slot_state {
    HS_SLOT_EMPTY,
    HS_SLOT_WHOLE,
    HS_SLOT_QUEUED,    /* the packet is the next one in the socket's queue */
    HS_SLOT_TRUNCATED, /* and the queue had no room for it */
};

/* Before the socket is bound. 0 or a negative errno. */
int hs_packet_ring_map(struct hs_packet_ring *ring, int fd);
void hs_packet_ring_unmap(struct hs_packet_ring *ring);

/* What the slot `ahead` of the next one holds; of a whole packet also where it lies, its vnet header right in
 * front of it. */
enum hs_slot_state hs_packet_ring_look(const struct hs_packet_ring *ring, uint32_t ahead, uint8_t **frame,
                                       uint32_t *length);
/* Whether a frame lies in the ring's memory. */
bool hs_packet_ring_holds(const struct hs_packet_ring *ring, const uint8_t *frame);

/* The kernel gets `count` slots back. */
void hs_packet_ring_release(struct hs_packet_ring *ring, uint32_t count);

#endif
