#include "io/packet_ring.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* 16 MiB: at a million packets a second, the 8 ms that a reader may be kept from its core. */
enum { SLOT = 2048, SLOTS = 8192, BLOCK = 1 << 16 };

int hs_packet_ring_map(struct hs_packet_ring *ring, int fd)
{
    struct tpacket_req request = {
        .tp_block_size = BLOCK,
        .tp_block_nr = SLOTS / (BLOCK / SLOT),
        .tp_frame_size = SLOT,
        .tp_frame_nr = SLOTS,
    };
    int version = TPACKET_V2, one = 1;
    void *map;

    if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
        setsockopt(fd, SOL_PACKET, PACKET_COPY_THRESH, &one, sizeof one) ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request))
        return -errno;
    map = mmap(NULL, (size_t)SLOT * SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    *ring = (struct hs_packet_ring){map, 0};
    return 0;
}

void hs_packet_ring_unmap(struct hs_packet_ring *ring)
{
    if (ring->slots)
        munmap(ring->slots, (size_t)SLOT * SLOTS);
    *ring = (struct hs_packet_ring){0};
}

static struct tpacket2_hdr *slot_at(const struct hs_packet_ring *ring, uint32_t ahead)
{
    return (struct tpacket2_hdr *)(ring->slots + (size_t)((ring->next + ahead) & (SLOTS - 1)) * SLOT);
}

enum hs_slot_state hs_packet_ring_look(const struct hs_packet_ring *ring, uint32_t ahead, uint8_t **frame,
                                       uint32_t *length)
{
    struct tpacket2_hdr *slot = slot_at(ring, ahead);
    uint32_t status = __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);

    if (!(status & TP_STATUS_USER))
        return HS_SLOT_EMPTY;
    if (status & TP_STATUS_COPY)
        return HS_SLOT_QUEUED;
    if (slot->tp_snaplen < slot->tp_len)
        return HS_SLOT_TRUNCATED;
    *frame = (uint8_t *)slot + slot->tp_mac;
    *length = slot->tp_snaplen;
    return HS_SLOT_WHOLE;
}

bool hs_packet_ring_holds(const struct hs_packet_ring *ring, const uint8_t *frame)
{
    return ring->slots && (uintptr_t)frame - (uintptr_t)ring->slots < (uintptr_t)SLOT * SLOTS;
}

void hs_packet_ring_release(struct hs_packet_ring *ring, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        __atomic_store_n(&slot_at(ring, i)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    ring->next = (ring->next + count) & (SLOTS - 1);
}
