/* A bounded first-in first-out queue of whole packets that wait for something. */
#ifndef HS_PACKET_QUEUE_H
#define HS_PACKET_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/packet.h"

struct hs_queued {
    struct hs_vnet vnet;
    uint8_t *frame;
    uint32_t length;
    uint32_t next_hop;    /* network order; which neighbour it leaves by; 0: the one below */
    struct hs_address6 next_hop6;
    uint8_t side;
    uint8_t came_by, direction; /* of a flow's packet: where it came in, and which of its ways it goes */
    uint16_t version;           /* the flow's */
    uint32_t slot;              /* the flow's; HS_NOTHING: it is of none */
    uint64_t sequence;    /* the delta that must be committed first */
    uint64_t deadline_ns;
};

struct hs_packet_queue {
    struct hs_queued *entries;
    uint8_t *arena; /* frames, in order; a frame never wraps */
    uint32_t capacity, first, count;
    uint32_t arena_size, arena_first, arena_next, arena_wrap;
    uint32_t bytes; /* of the packets in it */
};

bool hs_packet_queue_init(struct hs_packet_queue *queue, uint32_t packets, uint32_t bytes);
void hs_packet_queue_free(struct hs_packet_queue *queue);

/* Copies a packet behind the others. False: no room. */
bool hs_packet_queue_push(struct hs_packet_queue *queue, const struct hs_queued *packet);

/* The packet that waits longest, or NULL. Its frame stays where it is until `push` needs the room. */
struct hs_queued *hs_packet_queue_front(struct hs_packet_queue *queue);
void hs_packet_queue_pop(struct hs_packet_queue *queue);
void hs_packet_queue_clear(struct hs_packet_queue *queue);

#endif
