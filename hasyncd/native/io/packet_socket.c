#include "io/packet_socket.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "io/flow_cache.h"
#include "io/packet_ring.h"
#include "io/side_socket.h"

enum {
    BATCH = 64,
    HEADROOM = sizeof(struct hs_vnet), /* a received frame's vnet header lies right in front of it */
    FRAME_ROOM = HEADROOM + HS_FRAME_MAX + 65, /* an ICMPv6 error grows a small packet by 48 bytes */
    FRAMES_BYTES = BATCH * FRAME_ROOM,
};

/* What leaves one side together. */
struct outbox {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH][2]; /* header and frame; in one where they lie together */
    uint32_t count;
};

struct side {
    struct hs_side_socket socket;
    struct outbox batch;    /* of whoever polls: flushed without the lock */
    struct outbox gathered; /* of whoever holds the lock */
};

struct hs_packet_io {
    struct side sides[HS_SIDES];
    struct mmsghdr queued[BATCH];
    struct iovec queued_parts[BATCH];
    uint8_t *frames;            /* FRAMES_BYTES, for what comes out of a socket's queue */
    uint64_t send_errors;       /* of batches, which are sent without the lock */
    uint64_t truncated;
    uint64_t logged;
    struct hs_flow_cache *cache; /* NULL: every packet comes up here */
    struct hs_gateway *cached;   /* whose flows it holds */
    const struct side *batch; /* what is sent now belongs to a batch of this side; NULL: to none */
    bool gathers;                    /* what is sent now stays where it is until `hs_packet_io_flush` */
    pthread_mutex_t door, lock; /* whoever waits for `lock` holds `door`: nobody overtakes */
};

uint64_t hs_boottime_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct hs_packet_io *hs_packet_io_create(void)
{
    struct hs_packet_io *io = calloc(1, sizeof *io);

    if (!io)
        return NULL;
    io->frames = malloc(FRAMES_BYTES);
    pthread_mutex_init(&io->door, NULL);
    pthread_mutex_init(&io->lock, NULL);
    for (int side = 0; side < HS_SIDES; side++)
        hs_side_socket_init(&io->sides[side].socket);
    for (int i = 0; io->frames && i < BATCH; i++) {
        io->queued_parts[i] = (struct iovec){io->frames + (size_t)i * FRAME_ROOM, HEADROOM + HS_FRAME_MAX};
        io->queued[i].msg_hdr = (struct msghdr){.msg_iov = &io->queued_parts[i], .msg_iovlen = 1};
        for (int side = 0; side < HS_SIDES; side++) {
            struct side *s = &io->sides[side];

            s->batch.messages[i].msg_hdr.msg_iov = s->batch.parts[i];
            s->gathered.messages[i].msg_hdr.msg_iov = s->gathered.parts[i];
        }
    }
    if (!io->frames) {
        free(io);
        return NULL;
    }
    return io;
}

void hs_packet_io_destroy(struct hs_packet_io *io)
{
    if (!io)
        return;
    for (int side = 0; side < HS_SIDES; side++)
        hs_side_socket_close(&io->sides[side].socket);
    hs_flow_cache_close(io->cache);
    free(io->frames);
    free(io);
}

void hs_packet_io_lock(struct hs_packet_io *io)
{
    pthread_mutex_lock(&io->door);
    pthread_mutex_lock(&io->lock);
    pthread_mutex_unlock(&io->door);
}

void hs_packet_io_unlock(struct hs_packet_io *io)
{
    if (io->cache)
        hs_flow_cache_settle(io->cache, io->cached); /* before anybody else sees the gateway, or its packets leave */
    pthread_mutex_unlock(&io->lock);
}

void hs_packet_io_use_cache(struct hs_packet_io *io, struct hs_flow_cache *cache, struct hs_gateway *g)
{
    hs_flow_cache_close(io->cache);
    io->cache = cache;
    io->cached = g;
}

const struct hs_flow_cache *hs_packet_io_cache(const struct hs_packet_io *io)
{
    return io->cache;
}

int hs_packet_io_descriptor(const struct hs_packet_io *io, int side)
{
    return io->sides[side].socket.watched;
}

int hs_packet_io_open(struct hs_packet_io *io, int side, int ifindex, bool with_ring, bool behind)
{
    return hs_side_socket_open(&io->sides[side].socket, ifindex, with_ring, behind);
}

int hs_packet_io_join_groups(struct hs_packet_io *io, int side, const struct hs_address6 *addresses, uint32_t count)
{
    return hs_side_socket_join_groups(&io->sides[side].socket, addresses, count);
}

uint64_t hs_packet_io_dropped(struct hs_packet_io *io)
{
    uint64_t dropped = __atomic_load_n(&io->truncated, __ATOMIC_RELAXED);

    for (int side = 0; side < HS_SIDES; side++)
        dropped += hs_side_socket_dropped(&io->sides[side].socket);
    return dropped;
}

static void flush(struct hs_packet_io *io, int side, struct outbox *box)
{
    for (uint32_t at = 0; at < box->count;) {
        int sent = sendmmsg(io->sides[side].socket.out, box->messages + at, box->count - at, MSG_DONTWAIT);

        if (sent > 0) {
            at += (uint32_t)sent;
            continue;
        }
        if (errno == EINTR)
            continue;
        /* This one cannot leave (ENOBUFS, EMSGSIZE, ENETDOWN); the others may. */
        __atomic_add_fetch(&io->send_errors, 1, __ATOMIC_RELAXED);
        at++;
    }
    box->count = 0;
}

/* The parts of the next message, `count` of them. */
static struct iovec *next_parts(struct hs_packet_io *io, int side, struct outbox *box, size_t count)
{
    if (box->count == BATCH)
        flush(io, side, box);
    box->messages[box->count].msg_hdr.msg_iovlen = count;
    return box->parts[box->count++];
}

void hs_packet_io_gather(struct hs_packet_io *io)
{
    io->gathers = true;
}

void hs_packet_io_flush(struct hs_packet_io *io)
{
    io->gathers = false;
    for (int side = 0; side < HS_SIDES; side++)
        flush(io, side, &io->sides[side].gathered);
}

/* What an announcement sends, and a fragment that waited: its frame may not outlive the call. */
static void send_at_once(struct hs_packet_io *io, int side, const struct hs_vnet *vnet,
                         uint8_t *frame, uint32_t length)
{
    struct iovec parts[2] = {{(void *)vnet, sizeof *vnet}, {frame, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    if (sendmsg(io->sides[side].socket.out, &message, MSG_DONTWAIT) < 0)
        __atomic_add_fetch(&io->send_errors, 1, __ATOMIC_RELAXED);
}

/* Whether a frame lies where the batch under way was received. */
static bool of_batch(const struct hs_packet_io *io, const uint8_t *frame)
{
    return (uintptr_t)frame - (uintptr_t)io->frames < FRAMES_BYTES ||
           hs_packet_ring_holds(&io->batch->socket.ring, frame);
}

void hs_packet_io_send(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame,
                       uint32_t length)
{
    struct hs_packet_io *io = context;
    struct side *s = &io->sides[side];

    if (io->gathers) {
        struct iovec *parts = next_parts(io, side, &s->gathered, 2);

        parts[0] = (struct iovec){(void *)vnet, sizeof *vnet};
        parts[1] = (struct iovec){frame, length};
        return;
    }
    if (!io->batch || !of_batch(io, frame)) {
        if (io->batch)
            flush(io, side, &s->batch); /* the others come first */
        send_at_once(io, side, vnet, frame, length);
        return;
    }
    memmove(frame - HEADROOM, vnet, HEADROOM); /* it may be there already */
    *next_parts(io, side, &s->batch, 1) = (struct iovec){frame - HEADROOM, HEADROOM + length};
}

/* Packets of the socket's queue, into `frames`. */
static int read_queue(struct hs_packet_io *io, int fd, uint32_t room)
{
    int count = recvmmsg(fd, io->queued, room, MSG_DONTWAIT, NULL);

    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return count;
}

static struct hs_received queued_frame(const struct hs_packet_io *io, int at)
{
    uint8_t *memory = io->queued_parts[at].iov_base;
    uint32_t length = io->queued[at].msg_len;

    return (struct hs_received){(struct hs_vnet *)memory, memory + HEADROOM,
                                length > HEADROOM ? length - HEADROOM : 0};
}

/* The next packets of the ring, in order, those that wait in the queue among them; the number of slots. */
static int read_ring(struct hs_packet_io *io, int side, uint32_t room, struct hs_received *frames,
                     uint32_t *whole)
{
    uint32_t slots, from_queue[BATCH], wanted = 0, kept = 0;
    int there;

    for (slots = 0; slots < room; slots++) {
        struct hs_received *one = &frames[*whole];
        enum hs_slot_state state =
            hs_packet_ring_look(&io->sides[side].socket.ring, slots, &one->frame, &one->length);

        if (state == HS_SLOT_EMPTY)
            break;
        if (state == HS_SLOT_TRUNCATED) {
            __atomic_add_fetch(&io->truncated, 1, __ATOMIC_RELAXED);
            continue;
        }
        if (state == HS_SLOT_QUEUED)
            from_queue[wanted++] = *whole;
        else
            one->vnet = (struct hs_vnet *)(one->frame - HEADROOM);
        ++*whole;
    }
    there = wanted ? read_queue(io, io->sides[side].socket.fd, wanted) : 0;
    for (int i = 0; i < (int)wanted; i++)
        frames[from_queue[i]] = i < there ? queued_frame(io, i) : (struct hs_received){0};
    for (uint32_t i = 0; i < *whole; i++)
        if (frames[i].length)
            frames[kept++] = frames[i];
    *whole = kept;
    return (int)slots;
}

/* Of one door of a side: its ring, or the queue of `fd`. */
static int receive_batch(struct hs_packet_io *io, struct hs_gateway *g, int side, int fd, uint32_t room)
{
    static struct hs_packet_ring none;
    struct hs_packet_ring *ring = fd == io->sides[side].socket.fd ? &io->sides[side].socket.ring : &none;
    struct hs_received frames[BATCH];
    uint32_t whole = 0;
    int count;

    room = room < BATCH ? room : BATCH;
    if (ring->slots)
        count = read_ring(io, side, room, frames, &whole);
    else
        for (count = read_queue(io, fd, room); (int)whole < count; whole++)
            frames[whole] = queued_frame(io, (int)whole);
    if (count <= 0)
        return count;
    hs_packet_io_lock(io);
    io->batch = &io->sides[side];
    /* The time under the lock: the lease is judged when the batch is. */
    hs_gateway_receive_batch(g, side, frames, whole, hs_boottime_ns());
    io->batch = NULL;
    io->logged = g->log.next;
    g->counters.send_errors = __atomic_load_n(&io->send_errors, __ATOMIC_RELAXED);
    hs_packet_io_unlock(io);
    for (int out = 0; out < HS_SIDES; out++)
        flush(io, out, &io->sides[out].batch);
    if (ring->slots)
        hs_packet_ring_release(ring, (uint32_t)count);
    return count;
}

int hs_packet_io_poll(struct hs_packet_io *io, struct hs_gateway *g, uint32_t budget)
{
    uint32_t done = 0;
    int error = 0;
    bool more = true;

    while (more && done < budget) {
        more = false;
        for (int side = 0; side < HS_SIDES && done < budget; side++) {
            const struct hs_side_socket *s = &io->sides[side].socket;
            int count = s->fd < 0 ? 0 : receive_batch(io, g, side, s->fd, budget - done);

            for (int i = 0; count >= 0 && i < HS_OTHER_DOORS && s->others[i] >= 0 && done + (uint32_t)count < budget; i++) {
                int other = receive_batch(io, g, side, s->others[i], budget - done - (uint32_t)count);

                more |= other == BATCH;
                count = other < 0 ? other : count + other;
            }
            if (count < 0) {
                error = count;
                continue;
            }
            done += (uint32_t)count;
            /* To look into a ring once more is cheaper than to sleep; into a queue it is a system call. */
            more |= count == BATCH || (count && s->ring.slots);
        }
    }
    for (int side = 0; !done && !error && side < HS_SIDES; side++)
        error = hs_side_socket_pending_error(&io->sides[side].socket);
    return done ? (int)done : error;
}

uint64_t hs_packet_io_logged(const struct hs_packet_io *io)
{
    return io->logged;
}
