#include "io/side_socket.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/packet_door.h"

void hs_side_socket_init(struct hs_side_socket *s)
{
    *s = (struct hs_side_socket){.fd = -1, .out = -1, .others = {-1, -1}, .watched = -1};
}

void hs_side_socket_close(struct hs_side_socket *s)
{
    if (s->fd < 0)
        return;
    hs_packet_ring_unmap(&s->ring);
    if (s->watched >= 0 && s->watched != s->fd)
        close(s->watched);
    if (s->out >= 0 && s->out != s->fd)
        close(s->out);
    close(s->fd);
    for (int i = 0; i < HS_OTHER_DOORS; i++)
        if (s->others[i] >= 0)
            close(s->others[i]);
    s->fd = s->out = s->watched = s->others[0] = s->others[1] = -1;
}

/* The doors of a side whose socket sees only what tc ingress let pass: one for each protocol, and one to send by. What
 * leaves by a socket of one protocol is of that protocol to the kernel, which could then not segment the others' packets
 * (af_packet.c, packet_snd); without a protocol it looks into the frame.
 */
static int open_behind(struct hs_side_socket *s)
{
    static const uint16_t protocols[HS_OTHER_DOORS] = {ETH_P_IPV6, ETH_P_ARP};
    struct epoll_event event = {.events = EPOLLIN};

    for (int i = 0; i < HS_OTHER_DOORS; i++) {
        s->others[i] = hs_packet_door_open(s->ifindex, protocols[i], NULL);
        if (s->others[i] < 0)
            return s->others[i];
    }
    s->out = hs_packet_door_open(s->ifindex, 0, NULL);
    if (s->out < 0)
        return s->out;
    s->watched = epoll_create1(EPOLL_CLOEXEC);
    if (s->watched < 0 || epoll_ctl(s->watched, EPOLL_CTL_ADD, s->fd, &event))
        return -errno;
    for (int i = 0; i < HS_OTHER_DOORS; i++)
        if (epoll_ctl(s->watched, EPOLL_CTL_ADD, s->others[i], &event))
            return -errno;
    return 0;
}

int hs_side_socket_open(struct hs_side_socket *s, int ifindex, bool with_ring, bool behind)
{
    struct hs_packet_ring ring = {0};
    int fd = hs_packet_door_open(ifindex, behind ? ETH_P_IP : ETH_P_ALL, with_ring ? &ring : NULL), error = 0;

    if (fd < 0)
        return fd;
    hs_side_socket_close(s);
    s->fd = s->out = s->watched = fd;
    s->ring = ring;
    s->ifindex = ifindex;
    if (behind)
        error = open_behind(s);
    if (error)
        hs_side_socket_close(s);
    return error ? error : s->watched;
}

static int join_group(const struct hs_side_socket *s, const uint8_t mac[6])
{
    struct packet_mreq group = {.mr_ifindex = s->ifindex, .mr_type = PACKET_MR_MULTICAST, .mr_alen = 6};

    memcpy(group.mr_address, mac, 6);
    return setsockopt(s->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &group, sizeof group) ? errno : 0;
}

int hs_side_socket_join_groups(const struct hs_side_socket *s, const struct hs_address6 *addresses, uint32_t count)
{
    uint8_t mac[6] = {0x33, 0x33, 0, 0, 0, 1}; /* RFC 2464 §7 */
    int error = count ? join_group(s, mac) : 0;

    mac[2] = 0xff;
    for (uint32_t i = 0; !error && i < count; i++) {
        memcpy(mac + 3, addresses[i].bytes + 13, 3);
        error = join_group(s, mac);
    }
    return error;
}

uint64_t hs_side_socket_dropped(struct hs_side_socket *s)
{
    struct tpacket_stats since; /* the last question */
    socklen_t size = sizeof since;

    for (int i = -1; i < HS_OTHER_DOORS; i++) {
        int fd = i < 0 ? s->fd : s->others[i];

        if (fd >= 0 && !getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &since, &size))
            s->dropped += since.tp_drops;
    }
    return s->dropped;
}

int hs_side_socket_pending_error(const struct hs_side_socket *s)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (!s->ring.slots || getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size))
        return 0;
    return -error;
}
