/* AF_PACKET in batches: a receive ring or recvmmsg, and sendmmsg, with virtio_net_hdr in front (PACKET_VNET_HDR).
 *
 * One `hs_packet_io` serves both sides. Frames are sent from where they were received;
 * within `hs_packet_io_poll` what is sent is collected and leaves once a batch, outside of it at once, or at
 * `hs_packet_io_flush`.
 *
 * Two threads may share a gateway: the one that polls (see packet_thread.h) and the one that asks. Whoever
 * touches the gateway holds the lock; system calls of a batch are made without it.
 */
#ifndef HS_PACKET_SOCKET_H
#define HS_PACKET_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/gateway.h"

struct hs_packet_io;
struct hs_flow_cache;

struct hs_packet_io *hs_packet_io_create(void);
void hs_packet_io_destroy(struct hs_packet_io *io);

/* Fair: whoever waits comes next, so that a flood cannot keep the other thread out. */
void hs_packet_io_lock(struct hs_packet_io *io);
void hs_packet_io_unlock(struct hs_packet_io *io);

/* Opens a side, with a ring (packet_ring.h) or with a queue only. `behind`: it sees only what tc ingress lets pass, else
 * every packet before tc does. Returns a descriptor that is readable when there are packets, or a negative errno;
 * ENOMEM: the kernel has no 16 MiB for a ring. */
int hs_packet_io_open(struct hs_packet_io *io, int side, int ifindex, bool with_ring, bool behind);

/* From now on the gateway's established flows are the kernel's too. The io owns the cache (NULL: none). */
void hs_packet_io_use_cache(struct hs_packet_io *io, struct hs_flow_cache *cache, struct hs_gateway *g);
const struct hs_flow_cache *hs_packet_io_cache(const struct hs_packet_io *io);

/* The side's socket hears neighbour solicitations for these IPv6 addresses, whatever groups the kernel has joined, and
 * announcements to all nodes. Groups joined before stay, and cost nothing. Returns 0 or an errno. */
int hs_packet_io_join_groups(struct hs_packet_io *io, int side, const struct hs_address6 *addresses, uint32_t count);

/* `hs_output.send` with `io` as its context. */
void hs_packet_io_send(void *io, int side, const struct hs_vnet *vnet, uint8_t *frame,
                       uint32_t length);

/* What is sent from here to `hs_packet_io_flush` leaves together there, on each side in its order: one system call for a
 * batch of it. For a release: its frames lie in a queue, where nothing changes them as long as the lock is held. */
void hs_packet_io_gather(struct hs_packet_io *io);
void hs_packet_io_flush(struct hs_packet_io *io);

int hs_packet_io_descriptor(const struct hs_packet_io *io, int side);

/* Receives and judges up to `budget` packets; returns how many, or a negative errno of a dead interface. Takes
 * the lock for each batch; one thread at a time may call it. */
int hs_packet_io_poll(struct hs_packet_io *io, struct hs_gateway *gateway, uint32_t budget);

/* The delta log's next sequence after the last batch; for whoever polls. */
uint64_t hs_packet_io_logged(const struct hs_packet_io *io);

/* Packets that found ring and queue full since the sockets were opened (PACKET_STATISTICS). Under the lock. */
uint64_t hs_packet_io_dropped(struct hs_packet_io *io);

uint64_t hs_boottime_ns(void);

#endif
