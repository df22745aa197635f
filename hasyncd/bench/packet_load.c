#include "packet_load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

void fail(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

uint32_t sum_of(const uint8_t *at, int length)
{
    uint32_t sum = 0;

    for (int i = 0; i < length; i += 2)
        sum += (uint32_t)at[i] << 8 | at[i + 1];
    return sum;
}

uint32_t fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

uint32_t address_of(const char *text)
{
    struct in_addr address;

    if (inet_pton(AF_INET, text, &address) != 1) {
        errno = EINVAL;
        fail(text);
    }
    return ntohl(address.s_addr);
}

void read_mac(const char *text, uint8_t *mac)
{
    if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
               &mac[5]) != 6) {
        errno = EINVAL;
        fail(text);
    }
}

void enter(const char *namespace)
{
    char path[256];
    int fd;

    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET))
        fail(path);
    close(fd);
}

int index_of(const char *device)
{
    int ifindex = (int)if_nametoindex(device);

    if (!ifindex)
        fail(device);
    return ifindex;
}

int open_packet_socket(const char *device, bool with_vnet, uint8_t *own_mac)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = index_of(device)};
    struct ifreq request = {.ifr_flags = 0};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1;

    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (fd < 0 || (with_vnet && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one)) ||
        bind(fd, (struct sockaddr *)&address, sizeof address) || ioctl(fd, SIOCGIFHWADDR, &request))
        fail(device);
    memcpy(own_mac, request.ifr_hwaddr.sa_data, 6);
    return fd;
}

void send_whole_batch(int fd, struct mmsghdr *messages, int count)
{
    for (int sent = 0; sent < count;) {
        int more = sendmmsg(fd, messages + sent, (unsigned)(count - sent), 0);

        if (more < 0 && errno != ENOBUFS && errno != EINTR)
            fail("send");
        sent += more > 0 ? more : 0;
    }
}

void take_first_core(void)
{
    cpu_set_t cores;

    CPU_ZERO(&cores);
    CPU_SET(0, &cores);
    sched_setaffinity(0, sizeof cores, &cores); /* where it is not ours, any other will do */
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}
