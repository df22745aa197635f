/* Sends the first UDP datagram of many flows to a gateway, each with a tuple of its own.
 *
 *     flow_load NETNS DEVICE GATEWAY-MAC SOURCE SOURCES DESTINATION DESTINATIONS PORT FIRST COUNT RATE
 *
 * Flow n (FIRST, FIRST + 1, … COUNT of them) goes from one of SOURCES addresses from SOURCE on to one of DESTINATIONS
 * from DESTINATION on, port PORT; 64,512 * SOURCES of them have different tuples. RATE is in flows a second, 0 = as fast
 * as the machine sends. What the gateway drops is not sent again: whoever wants all of them runs it once more. Prints
 * one line of JSON.
 */
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "packet_load.h"

enum { BATCH = 64, FRAME_LENGTH = 60, NAP_NS = 200000 };
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
    put16(frame + AT_IP_CHECKSUM, ~fold(sum_of(frame + AT_IP, 20)));
}

static void send_batch(struct load *load, uint64_t first, int count)
{
    for (int i = 0; i < count; i++)
        write_flow(load, load->frames[i], first + (uint64_t)i);
    send_whole_batch(load->fd, load->messages, count);
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

int main(int argc, char **argv)
{
    static struct load load;
    uint8_t gateway[6], own[6];

    if (argc != 12) {
        fprintf(stderr, "flow_load: 11 arguments, see flow_load.c\n");
        return 2;
    }
    read_mac(argv[3], gateway);
    load.source = address_of(argv[4]);
    load.sources = (uint32_t)atoi(argv[5]);
    load.destination = address_of(argv[6]);
    load.destinations = (uint32_t)atoi(argv[7]);
    enter(argv[1]);
    load.fd = open_packet_socket(argv[2], false, own);
    prepare(&load, gateway, own, (uint16_t)atoi(argv[8]));
    take_first_core();
    send_all(&load, strtoull(argv[9], NULL, 10), strtoull(argv[10], NULL, 10), atof(argv[11]));
    return 0;
}
