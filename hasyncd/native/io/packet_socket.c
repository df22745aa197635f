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

enum {
    BATCH = 64,
    FRAME_ROOM = HS_FRAME_MAX + 51,    /* an ICMP error grows a small packet by 28 bytes */
    RECEIVE_BUFFER = 32 << 20,
};

struct side_socket {
    int fd;
    struct mmsghdr sent[BATCH];
    struct iovec sent_parts[BATCH][2];
    struct hs_vnet sent_vnet[BATCH];
    uint32_t sent_count;
};

struct hs_packet_io {
    struct side_socket sides[HS_SIDES];
    struct mmsghdr received[BATCH];
    struct iovec received_parts[BATCH][2];
    struct hs_vnet received_vnet[BATCH];
    uint8_t *frames; /* BATCH * FRAME_ROOM */
    uint64_t send_errors;       /* of batches, which are sent without the lock */
    int batching;               /* what is sent now belongs to a received batch */
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
    io->frames = malloc((size_t)BATCH * FRAME_ROOM);
    pthread_mutex_init(&io->door, NULL);
    pthread_mutex_init(&io->lock, NULL);
    for (int side = 0; side < HS_SIDES; side++)
        io->sides[side].fd = -1;
    for (int i = 0; io->frames && i < BATCH; i++) {
        io->received_parts[i][0] = (struct iovec){&io->received_vnet[i], sizeof(struct hs_vnet)};
        io->received_parts[i][1] = (struct iovec){io->frames + (size_t)i * FRAME_ROOM, HS_FRAME_MAX};
        io->received[i].msg_hdr.msg_iov = io->received_parts[i];
        io->received[i].msg_hdr.msg_iovlen = 2;
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
        if (io->sides[side].fd >= 0)
            close(io->sides[side].fd);
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

/* Only ARP, and IPv4 that is addressed to our MAC: everything else would be copied in vain. */
static int attach_filter(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_HOST, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

int hs_packet_io_open(struct hs_packet_io *io, int side, int ifindex)
{
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = ifindex};
    int one = 1, size = RECEIVE_BUFFER;
    /* Protocol 0: nothing is queued before the filter is there and the interface chosen. */
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (attach_filter(fd) || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) ||
        bind(fd, (struct sockaddr *)&address, sizeof address)) {
        int error = errno;

        close(fd);
        return -error;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (io->sides[side].fd >= 0)
        close(io->sides[side].fd);
    io->sides[side].fd = fd;
    return fd;
}

static void flush(struct hs_packet_io *io, int side)
{
    struct side_socket *s = &io->sides[side];

    for (uint32_t at = 0; at < s->sent_count;) {
        int sent = sendmmsg(s->fd, s->sent + at, s->sent_count - at, MSG_DONTWAIT);

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
    s->sent_count = 0;
}

/* What a release or an announcement sends: rare, and its frame may not outlive the call. */
static void send_at_once(struct hs_packet_io *io, int side, const struct hs_vnet *vnet,
                         uint8_t *frame, uint32_t length)
{
    struct iovec parts[2] = {{(void *)vnet, sizeof *vnet}, {frame, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    if (sendmsg(io->sides[side].fd, &message, MSG_DONTWAIT) < 0)
        __atomic_add_fetch(&io->send_errors, 1, __ATOMIC_RELAXED);
}

void hs_packet_io_send(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame,
                       uint32_t length)
{
    struct hs_packet_io *io = context;
    struct side_socket *s = &io->sides[side];
    uint32_t at;

    if (!io->batching) {
        send_at_once(io, side, vnet, frame, length);
        return;
    }
    if (s->sent_count == BATCH)
        flush(io, side);
    at = s->sent_count++;
    s->sent_vnet[at] = *vnet;
    s->sent_parts[at][0] = (struct iovec){&s->sent_vnet[at], sizeof *vnet};
    s->sent_parts[at][1] = (struct iovec){frame, length};
    s->sent[at].msg_hdr = (struct msghdr){.msg_iov = s->sent_parts[at], .msg_iovlen = 2};
}

static int receive_batch(struct hs_packet_io *io, struct hs_gateway *g, int side, uint32_t room)
{
    int count = recvmmsg(io->sides[side].fd, io->received, room < BATCH ? room : BATCH,
                         MSG_DONTWAIT, NULL);
    struct hs_received frames[BATCH];
    uint32_t whole = 0;

    if (count <= 0)
        return count == 0 || errno == EAGAIN || errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        uint32_t length = io->received[i].msg_len;

        if (length > sizeof(struct hs_vnet))
            frames[whole++] = (struct hs_received){&io->received_vnet[i], io->received_parts[i][1].iov_base,
                                                   length - (uint32_t)sizeof(struct hs_vnet)};
    }
    hs_packet_io_lock(io);
    io->batching = 1;
    /* The time under the lock: the lease is judged when the batch is. */
    hs_gateway_receive_batch(g, side, frames, whole, hs_boottime_ns());
    io->batching = 0;
    g->counters.send_errors = __atomic_load_n(&io->send_errors, __ATOMIC_RELAXED);
    hs_packet_io_unlock(io);
    for (int out = 0; out < HS_SIDES; out++)
        flush(io, out);
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
            int count = io->sides[side].fd < 0 ? 0 : receive_batch(io, g, side, budget - done);

            if (count < 0) {
                error = count;
                continue;
            }
            done += (uint32_t)count;
            more |= count == BATCH;
        }
    }
    return done ? (int)done : error;
}
