#include "io/packet_door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/cached_flow.h"
#include "core/ipv6.h"

enum { RECEIVE_BUFFER = 32 << 20 };

/* Only ARP, IP that is addressed to our MAC, neighbour solicitations and advertisements sent to a group, and what the flow
 * cache left to us alone (tc/flow_cache.bpf.c): everything else would be copied in vain. */
static int attach_filter(int fd)
{
    enum { NEXT_HEADER = 14 + 6, ICMP_TYPE = 14 + 40 };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 15, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 12),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_HOST, 11, 8),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_HOST, 9, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_MULTICAST, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, NEXT_HEADER),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 3),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ICMP_TYPE),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HS_NEIGHBOUR_SOLICITATION, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HS_NEIGHBOUR_ADVERTISEMENT, 3, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_MARK)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HS_CACHE_MARK, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

/* All that must be there before the first packet is. */
static int set_up(int fd, struct hs_packet_ring *ring)
{
    int one = 1, size = RECEIVE_BUFFER;

    if (attach_filter(fd) || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one))
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return ring ? hs_packet_ring_map(ring, fd) : 0;
}

int hs_packet_door_open(int ifindex, uint16_t protocol, struct hs_packet_ring *ring)
{
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = ifindex};
    /* Protocol 0: nothing is queued before the filter is there and the interface chosen. */
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error;

    if (fd < 0)
        return -errno;
    error = set_up(fd, ring);
    if (!error && bind(fd, (struct sockaddr *)&address, sizeof address))
        error = -errno;
    if (!error)
        return fd;
    if (ring)
        hs_packet_ring_unmap(ring);
    close(fd);
    return error;
}
