#include "io/packet_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io/packet_ring.h"

enum {
    BATCH = 64,
    HEADROOM = sizeof(struct hs_vnet), /* a received frame's vnet header lies right in front of it */
    FRAME_ROOM = HEADROOM + HS_FRAME_MAX + 65, /* an ICMPv6 error grows a small packet by 48 bytes */
    FRAMES_BYTES = BATCH * FRAME_ROOM,
    RECEIVE_BUFFER = 32 << 20,
};

/* What leaves one side together. */
struct outbox {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH][2]; /* header and frame; in one where they lie together */
    uint32_t count;
};

struct side_socket {
    int fd, ifindex;
    struct hs_packet_ring ring;
    struct outbox batch;    /* of whoever polls: flushed without the lock */
    struct outbox gathered; /* of whoever holds the lock */
    uint64_t dropped; /* what the kernel has told so far */
};

struct hs_packet_io {
    struct side_socket sides[HS_SIDES];
    struct mmsghdr queued[BATCH];
    struct iovec queued_parts[BATCH];
    uint8_t *frames;            /* FRAMES_BYTES, for what comes out of a socket's queue */
    uint64_t send_errors;       /* of batches, which are sent without the lock */
    uint64_t truncated;
    uint64_t logged;
    const struct side_socket *batch; /* what is sent now belongs to a batch of this side; NULL: to none */
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
        io->sides[side].fd = -1;
    for (int i = 0; io->frames && i < BATCH; i++) {
        io->queued_parts[i] = (struct iovec){io->frames + (size_t)i * FRAME_ROOM, HEADROOM + HS_FRAME_MAX};
        io->queued[i].msg_hdr = (struct msghdr){.msg_iov = &io->queued_parts[i], .msg_iovlen = 1};
        for (int side = 0; side < HS_SIDES; side++) {
            struct side_socket *s = &io->sides[side];

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

static void close_side(struct side_socket *s)
{
    if (s->fd < 0)
        return;
    hs_packet_ring_unmap(&s->ring);
    close(s->fd);
    s->fd = -1;
}

void hs_packet_io_destroy(struct hs_packet_io *io)
{
    if (!io)
        return;
    for (int side = 0; side < HS_SIDES; side++)
        close_side(&io->sides[side]);
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
    pthread_mutex_unlock(&io->lock);
}

int hs_packet_io_descriptor(const struct hs_packet_io *io, int side)
{
    return io->sides[side].fd;
}

/* Only ARP, IP that is addressed to our MAC, and neighbour solicitations and advertisements sent to a group:
 * everything else would be copied in vain. */
static int attach_filter(int fd)
{
    enum { NEXT_HEADER = 14 + 6, ICMP_TYPE = 14 + 40 };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 13, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 10),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_HOST, 9, 8),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_HOST, 7, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_MULTICAST, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, NEXT_HEADER),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 3),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ICMP_TYPE),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HS_NEIGHBOUR_SOLICITATION, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HS_NEIGHBOUR_ADVERTISEMENT, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

/* All that must be there before the first packet is. */
static int set_up(int fd, struct hs_packet_ring *ring, bool with_ring)
{
    int one = 1, size = RECEIVE_BUFFER;

    if (attach_filter(fd) || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one))
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return with_ring ? hs_packet_ring_map(ring, fd) : 0;
}

int hs_packet_io_open(struct hs_packet_io *io, int side, int ifindex, bool with_ring)
{
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = ifindex};
    struct hs_packet_ring ring = {0};
    /* Protocol 0: nothing is queued before the filter is there and the interface chosen. */
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error;

    if (fd < 0)
        return -errno;
    error = set_up(fd, &ring, with_ring);
    if (!error && bind(fd, (struct sockaddr *)&address, sizeof address))
        error = -errno;
    if (error) {
        hs_packet_ring_unmap(&ring);
        close(fd);
        return error;
    }
    close_side(&io->sides[side]);
    io->sides[side].fd = fd;
    io->sides[side].ring = ring;
    io->sides[side].ifindex = ifindex;
    return fd;
}

static int join_group(const struct side_socket *s, const uint8_t mac[6])
{
    struct packet_mreq group = {.mr_ifindex = s->ifindex, .mr_type = PACKET_MR_MULTICAST, .mr_alen = 6};

    memcpy(group.mr_address, mac, 6);
    return setsockopt(s->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &group, sizeof group) ? errno : 0;
}

int hs_packet_io_join_groups(struct hs_packet_io *io, int side, const struct hs_address6 *addresses, uint32_t count)
{
    uint8_t mac[6] = {0x33, 0x33, 0, 0, 0, 1}; /* RFC 2464 §7 */
    int error = count ? join_group(&io->sides[side], mac) : 0;

    mac[2] = 0xff;
    for (uint32_t i = 0; !error && i < count; i++) {
        memcpy(mac + 3, addresses[i].bytes + 13, 3);
        error = join_group(&io->sides[side], mac);
    }
    return error;
}

uint64_t hs_packet_io_dropped(struct hs_packet_io *io)
{
    uint64_t dropped = __atomic_load_n(&io->truncated, __ATOMIC_RELAXED);

    for (int side = 0; side < HS_SIDES; side++) {
        struct side_socket *s = &io->sides[side];
        struct tpacket_stats since; /* the last question */
        socklen_t size = sizeof since;

        if (s->fd >= 0 && !getsockopt(s->fd, SOL_PACKET, PACKET_STATISTICS, &since, &size))
            s->dropped += since.tp_drops;
        dropped += s->dropped;
    }
    return dropped;
}

static void flush(struct hs_packet_io *io, int side, struct outbox *box)
{
    for (uint32_t at = 0; at < box->count;) {
        int sent = sendmmsg(io->sides[side].fd, box->messages + at, box->count - at, MSG_DONTWAIT);

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

    if (sendmsg(io->sides[side].fd, &message, MSG_DONTWAIT) < 0)
        __atomic_add_fetch(&io->send_errors, 1, __ATOMIC_RELAXED);
}

/* Whether a frame lies where the batch under way was received. */
static bool of_batch(const struct hs_packet_io *io, const uint8_t *frame)
{
    return (uintptr_t)frame - (uintptr_t)io->frames < FRAMES_BYTES ||
           hs_packet_ring_holds(&io->batch->ring, frame);
}

void hs_packet_io_send(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame,
                       uint32_t length)
{
    struct hs_packet_io *io = context;
    struct side_socket *s = &io->sides[side];

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
static int read_queue(struct hs_packet_io *io, int side, uint32_t room)
{
    int count = recvmmsg(io->sides[side].fd, io->queued, room, MSG_DONTWAIT, NULL);

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
            hs_packet_ring_look(&io->sides[side].ring, slots, &one->frame, &one->length);

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
    there = wanted ? read_queue(io, side, wanted) : 0;
    for (int i = 0; i < (int)wanted; i++)
        frames[from_queue[i]] = i < there ? queued_frame(io, i) : (struct hs_received){0};
    for (uint32_t i = 0; i < *whole; i++)
        if (frames[i].length)
            frames[kept++] = frames[i];
    *whole = kept;
    return (int)slots;
}

static int receive_batch(struct hs_packet_io *io, struct hs_gateway *g, int side, uint32_t room)
{
    struct hs_packet_ring *ring = &io->sides[side].ring;
    struct hs_received frames[BATCH];
    uint32_t whole = 0;
    int count;

    room = room < BATCH ? room : BATCH;
    if (ring->slots)
        count = read_ring(io, side, room, frames, &whole);
    else
        for (count = read_queue(io, side, room); (int)whole < count; whole++)
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

/* Of a ring, whose reading asks the kernel nothing: ENETDOWN, and clears it. */
static int pending_error(const struct side_socket *s)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (!s->ring.slots || getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size))
        return 0;
    return -error;
}

int hs_packet_io_poll(struct hs_packet_io *io, struct hs_gateway *g, uint32_t budget)
{
    uint32_t done = 0;
    int error = 0;
    bool more = true;

    while (more && done < budget) {
        more = false;
        for (int side = 0; side < HS_SIDES && done < budget; side++) {
            int count = io->sides[side].fd < 0 ? 0 : receive_batch(io, g, side, budget - done);

            if (count < 0) {
                error = count;
                continue;
            }
            done += (uint32_t)count;
            /* To look into a ring once more is cheaper than to sleep; into a queue it is a system call. */
            more |= count == BATCH || (count && io->sides[side].ring.slots);
        }
    }
    for (int side = 0; !done && !error && side < HS_SIDES; side++)
        error = pending_error(&io->sides[side]);
    return done ? (int)done : error;
}

uint64_t hs_packet_io_logged(const struct hs_packet_io *io)
{
    return io->logged;
}
