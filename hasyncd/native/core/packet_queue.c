#include "core/packet_queue.h"

#include <stdlib.h>
#include <string.h>

bool hs_packet_queue_init(struct hs_packet_queue *q, uint32_t packets, uint32_t bytes)
{
    *q = (struct hs_packet_queue){.capacity = packets, .arena_size = bytes};
    q->entries = calloc(packets, sizeof *q->entries);
    q->arena = malloc(bytes);
    return q->entries && q->arena;
}

void hs_packet_queue_free(struct hs_packet_queue *q)
{
    free(q->entries);
    free(q->arena);
    *q = (struct hs_packet_queue){0};
}

/* Room for `length` bytes in one piece, or NULL. The used part is [first, next), or, once `next` has gone back
 * to the start, [first, wrap) and [0, next). */
static uint8_t *reserve(struct hs_packet_queue *q, uint32_t length)
{
    uint8_t *at;

    if (q->count == 0)
        q->arena_first = q->arena_next = q->arena_wrap = 0;
    if (q->arena_wrap) {
        if (q->arena_first - q->arena_next < length)
            return NULL;
    } else if (q->arena_size - q->arena_next < length) {
        if (q->arena_first < length)
            return NULL;
        q->arena_wrap = q->arena_next;
        q->arena_next = 0;
    }
    at = q->arena + q->arena_next;
    q->arena_next += length;
    return at;
}

bool hs_packet_queue_push(struct hs_packet_queue *q, const struct hs_queued *packet)
{
    struct hs_queued *entry;
    uint8_t *frame;

    if (q->count == q->capacity)
        return false;
    frame = reserve(q, packet->length);
    if (!frame)
        return false;
    memmove(frame, packet->frame, packet->length); /* it may come from the front of this very queue */
    entry = &q->entries[(q->first + q->count++) % q->capacity];
    *entry = *packet;
    entry->frame = frame;
    q->bytes += packet->length;
    return true;
}

struct hs_queued *hs_packet_queue_front(struct hs_packet_queue *q)
{
    return q->count ? &q->entries[q->first] : NULL;
}

void hs_packet_queue_pop(struct hs_packet_queue *q)
{
    struct hs_queued *entry = &q->entries[q->first];

    q->arena_first = (uint32_t)(entry->frame - q->arena) + entry->length;
    if (q->arena_wrap && q->arena_first == q->arena_wrap)
        q->arena_first = q->arena_wrap = 0;
    q->bytes -= entry->length;
    q->first = (q->first + 1) % q->capacity;
    q->count--;
}

void hs_packet_queue_clear(struct hs_packet_queue *q)
{
    while (q->count)
        hs_packet_queue_pop(q);
}
