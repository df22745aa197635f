/* Sends the first UDP datagram of many flows to a gateway, each with a tuple of its own.
 *
 *     flow_load NETNS DEVICE GATEWAY-MAC SOURCE SOURCES DESTINATION DESTINATIONS PORT FIRST COUNT RATE
 *
 * Flow n (FIRST, FIRST + 1, … COUNT of them) goes from one of SOURCES addresses from SOURCE on to one of DESTINATIONS
 * from DESTINATION on, port PORT; 64,512 * SOURCES of them have different tuples. RATE is in flows a second, 0 = as fast
 * as the machine sends. What the gateway drops is not sent again: whoever wants all of them runs it once more. Prints
 * one line of JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, FIRST_PORT = 1024, PORTS = 64512, FRAME_LENGTH = 60, NAP_NS = 200000 };
/* Where fields of an Ethernet, IPv4 (no options), UDP frame lie. */
enum {
    AT_ETHERTYPE = 12, AT_IP = 14, AT_IP_LENGTH = 16, AT_TTL = 22, AT_PROTOCOL = 23, AT_IP_CHECKSUM = 24,
    AT_IP_SRC = 26, AT_IP_DST = 30, AT_UDP = 34, AT_PORT_DST = 36, AT_UDP_LENGTH = 38,
};

struct load {
    int fd;
    uint32_t source, sources, destination, destinations; /* host order */
    uint8_t frames[BATCH][FRAME_LENGTH];
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
};

static void fail(const char *what)
{
    fprintf(stderr, "flow_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static uint32_t checksum(const uint8_t *at, int length)
{
    uint32_t sum = 0;

    for (int i = 0; i < length; i += 2)
        sum += (uint32_t)at[i] << 8 | at[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    return ~((sum & 0xffff) + (sum >> 16));
}

static void open_socket(struct load *load, const char *namespace, const char *device, uint8_t *own)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET};
    struct ifreq request = {.ifr_flags = 0};
    char path[256];
    int fd;

    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET))
        fail(path);
    close(fd);
    address.sll_ifindex = (int)if_nametoindex(device);
    load->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (load->fd < 0 || !address.sll_ifindex || bind(load->fd, (struct sockaddr *)&address, sizeof address))
        fail(device);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (ioctl(load->fd, SIOCGIFHWADDR, &request))
        fail(device);
    memcpy(own, request.ifr_hwaddr.sa_data, 6);
}

/* Everything of the frames that no flow changes; UDP has no checksum then. */
static void prepare(struct load *load, const uint8_t *gateway, const uint8_t *own, uint16_t port)
{
    for (int i = 0; i < BATCH; i++) {
        uint8_t *frame = load->frames[i];

        memcpy(frame, gateway, 6);
        memcpy(frame + 6, own, 6);
        put16(frame + AT_ETHERTYPE, ETH_P_IP);
        frame[AT_IP] = 0x45;
        put16(frame + AT_IP_LENGTH, FRAME_LENGTH - AT_IP);
        frame[AT_TTL] = 64;
        frame[AT_PROTOCOL] = IPPROTO_UDP;
        put16(frame + AT_PORT_DST, port);
        put16(frame + AT_UDP_LENGTH, FRAME_LENGTH - AT_UDP);
        load->parts[i] = (struct iovec){frame, FRAME_LENGTH};
        load->messages[i].msg_hdr = (struct msghdr){.msg_iov = &load->parts[i], .msg_iovlen = 1};
    }
}

static void write_flow(const struct load *load, uint8_t *frame, uint64_t n)
{
    uint64_t turn = n / PORTS; /* every port has been used so often */

    put32(frame + AT_IP_SRC, load->source + (uint32_t)((n + turn) % load->sources));
    put32(frame + AT_IP_DST, load->destination + (uint32_t)((n + turn) % load->destinations));
    put16(frame + AT_UDP, FIRST_PORT + (uint32_t)(n % PORTS));
    put16(frame + AT_IP_CHECKSUM, 0);
    put16(frame + AT_IP_CHECKSUM, checksum(frame + AT_IP, 20));
}

static void send_batch(struct load *load, uint64_t first, int count)
{
    int sent = 0;

    for (int i = 0; i < count; i++)
        write_flow(load, load->frames[i], first + (uint64_t)i);
    while (sent < count) {
        int more = sendmmsg(load->fd, load->messages + sent, (unsigned)(count - sent), 0);

        if (more < 0 && errno != ENOBUFS && errno != EINTR)
            fail("send");
        sent += more > 0 ? more : 0;
    }
}

static void send_all(struct load *load, uint64_t first, uint64_t count, double rate)
{
    double began = now_s();

    for (uint64_t sent = 0; sent < count;) {
        double due = rate > 0 ? (now_s() - began) * rate : (double)count;
        uint64_t left = count - sent;

        if (due < (double)sent + 1) {
            nanosleep(&(struct timespec){0, NAP_NS}, NULL);
            continue;
        }
        left = due - (double)sent < (double)left ? (uint64_t)(due - (double)sent) : left;
        send_batch(load, first + sent, left < BATCH ? (int)left : BATCH);
        sent += left < BATCH ? left : BATCH;
    }
    printf("{\"sent\": %llu, \"seconds\": %.6f}\n", (unsigned long long)count, now_s() - began);
}

static uint32_t address_of(const char *text)
{
    struct in_addr address;

    if (inet_pton(AF_INET, text, &address) != 1) {
        errno = EINVAL;
        fail(text);
    }
    return ntohl(address.s_addr);
}

static void take_first_core(void)
{
    cpu_set_t cores;

    CPU_ZERO(&cores);
    CPU_SET(0, &cores);
    sched_setaffinity(0, sizeof cores, &cores); /* where it is not ours, any other will do */
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

int main(int argc, char **argv)
{
    static struct load load;
    uint8_t gateway[6], own[6];

    if (argc != 12) {
        fprintf(stderr, "flow_load: 11 arguments, see flow_load.c\n");
        return 2;
    }
    if (sscanf(argv[3], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &gateway[0], &gateway[1], &gateway[2], &gateway[3],
               &gateway[4], &gateway[5]) != 6) {
        errno = EINVAL;
        fail(argv[3]);
    }
    load.source = address_of(argv[4]);
    load.sources = (uint32_t)atoi(argv[5]);
    load.destination = address_of(argv[6]);
    load.destinations = (uint32_t)atoi(argv[7]);
    open_socket(&load, argv[1], argv[2], own);
    prepare(&load, gateway, own, (uint16_t)atoi(argv[8]));
    take_first_core();
    send_all(&load, strtoull(argv[9], NULL, 10), strtoull(argv[10], NULL, 10), atof(argv[11]));
    return 0;
}
