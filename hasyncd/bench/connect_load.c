/* Opens TCP connections through a gateway as fast as it takes them, and says how many the far end saw established.
 *
 *     connect_load CLIENT-NETNS DEVICE SERVER-NETNS DEVICE GATEWAY-MAC
 *                  SOURCE SOURCES DESTINATION DESTINATIONS PORT FIRST SECONDS
 *
 * Connection n (FIRST, FIRST + 1, …) goes from one of SOURCES addresses from SOURCE on to one of DESTINATIONS from
 * DESTINATION on, port PORT, all in turn. Both counts are powers of two: then 64,512 * SOURCES * DESTINATIONS of
 * them have different tuples. SYNs leave here, on the first core; all else is done by the ends (connect_ends.h). At
 * most WINDOW connections are under way: what a gateway drops would measure nothing. Prints one line of JSON about
 * SECONDS in the middle.
 */
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "connect_ends.h"
#include "packet_load.h"

enum { BATCH = 32, WINDOW = 512, NAP_NS = 20000 };
static const double WARM_S = 0.3, LOST_S = 0.05;

struct packet {
    struct virtio_net_hdr vnet;
    uint8_t frame[FRAME_LENGTH];
} __attribute__((packed));

struct load {
    struct connect_ends ends;
    int fd;
    uint32_t source, sources, destination, destinations; /* host order */
    uint64_t next;       /* number of the next connection */
    uint64_t sent, lost; /* SYNs; those of which nothing was heard any more */
    struct packet packets[BATCH];
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
};

struct moment {
    double s, busy_s;
    unsigned long long counts[CONNECT_COUNTS], sent;
};

/* CPU seconds that the machine has spent since it started, all cores; idle and I/O wait left out. */
static double busy_s(void)
{
    unsigned long long user, nice, system, idle, wait, irq, softirq, steal;
    FILE *file = fopen("/proc/stat", "r");

    if (!file || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait,
                        &irq, &softirq, &steal) != 8)
        fail("/proc/stat");
    fclose(file);
    return (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
}

/* Everything of the frames that no connection changes. */
static void prepare(struct load *load, const uint8_t *gateway, const uint8_t *own, uint16_t port)
{
    for (int i = 0; i < BATCH; i++) {
        struct packet *packet = &load->packets[i];
        uint8_t *frame = packet->frame;

        packet->vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        packet->vnet.csum_start = AT_TCP;
        packet->vnet.csum_offset = AT_TCP_CHECKSUM - AT_TCP;
        memcpy(frame + AT_MAC_DST, gateway, 6);
        memcpy(frame + AT_MAC_SRC, own, 6);
        put16(frame + AT_ETHERTYPE, ETH_P_IP);
        frame[AT_IP] = 0x45;
        put16(frame + AT_IP_LENGTH, FRAME_LENGTH - AT_IP);
        frame[AT_TTL] = 64;
        frame[AT_PROTOCOL] = IPPROTO_TCP;
        put16(frame + AT_PORT_DST, port);
        frame[AT_DATA_OFFSET] = 5 << 4;
        frame[AT_FLAGS] = TCP_SYN;
        put16(frame + AT_WINDOW, 64240);
        load->parts[i] = (struct iovec){packet, sizeof *packet};
        load->messages[i].msg_hdr = (struct msghdr){.msg_iov = &load->parts[i], .msg_iovlen = 1};
    }
}

/* Makes the SYN of connection `n`. */
static void write_syn(const struct load *load, uint8_t *frame, uint64_t n)
{
    uint64_t turn = n / PORTS; /* every port has been used so often */

    put32(frame + AT_IP_SRC, load->source + (uint32_t)((n + turn / load->destinations) % load->sources));
    put32(frame + AT_IP_DST, load->destination + (uint32_t)((n + turn) % load->destinations));
    put16(frame + AT_PORT_SRC, FIRST_PORT + (uint32_t)(n % PORTS));
    put32(frame + AT_SEQUENCE, (uint32_t)n * 2654435761u);
    put16(frame + AT_IP_CHECKSUM, 0);
    put16(frame + AT_IP_CHECKSUM, ~fold(sum_of(frame + AT_IP, 20)));
    put16(frame + AT_TCP_CHECKSUM, /* CHECKSUM_PARTIAL: the pseudo header's sum */
          fold(sum_of(frame + AT_IP_SRC, 8) + IPPROTO_TCP + FRAME_LENGTH - AT_TCP));
}

static void send_batch(struct load *load)
{
    for (int i = 0; i < BATCH; i++)
        write_syn(load, load->packets[i].frame, load->next++);
    send_whole_batch(load->fd, load->messages, BATCH);
    load->sent += BATCH;
}

/* Opens connections until `deadline_s`. */
static void run(struct load *load, double deadline_s)
{
    uint64_t established = 0;
    double moved_s = now_s();

    for (double now = moved_s; now < deadline_s; now = now_s()) {
        uint64_t seen = connect_ends_count(&load->ends, ESTABLISHED);

        if (seen != established) {
            established = seen;
            moved_s = now;
        }
        if (load->sent - seen - load->lost + BATCH <= WINDOW) {
            send_batch(load);
        } else if (now - moved_s > LOST_S) {
            load->lost = load->sent - seen;
            moved_s = now;
        } else {
            nanosleep(&(struct timespec){0, NAP_NS}, NULL);
        }
    }
}

static struct moment look(const struct load *load)
{
    struct moment moment = {.s = now_s(), .busy_s = busy_s(), .sent = load->sent};

    for (int i = 0; i < CONNECT_COUNTS; i++)
        moment.counts[i] = connect_ends_count(&load->ends, i);
    return moment;
}

static void measure(struct load *load, double seconds)
{
    struct moment before, after, end;

    run(load, now_s() + WARM_S);
    before = look(load);
    run(load, before.s + seconds);
    after = look(load);
    usleep(200000); /* what is still under way */
    end = look(load);
    printf("{\"seconds\": %.6f, \"busy_s\": %.2f, \"established\": %llu, \"total_sent\": %llu, \"wrong\": %llu",
           after.s - before.s, after.busy_s - before.busy_s, after.counts[ESTABLISHED] - before.counts[ESTABLISHED],
           end.sent, end.counts[WRONG]);
    printf(", \"total_answered\": %llu, \"total_confirmed\": %llu, \"total_established\": %llu, \"total_reset\": "
           "%llu}\n",
           end.counts[ANSWERED], end.counts[CONFIRMED], end.counts[ESTABLISHED], end.counts[RESETS]);
}

int main(int argc, char **argv)
{
    static struct load load;
    uint8_t gateway[6], own[6];

    if (argc != 13) {
        fprintf(stderr, "connect_load: 12 arguments, see connect_load.c\n");
        return 2;
    }
    read_mac(argv[5], gateway);
    load.source = address_of(argv[6]);
    load.sources = (uint32_t)atoi(argv[7]);
    load.destination = address_of(argv[8]);
    load.destinations = (uint32_t)atoi(argv[9]);
    load.next = strtoull(argv[11], NULL, 10);
    if (connect_ends_open(&load.ends))
        fail("BPF map");
    enter(argv[3]);
    if (connect_ends_attach_server(&load.ends, index_of(argv[4])) < 0)
        fail("the server's end (tcx: Linux 6.6)");
    enter(argv[1]);
    if (connect_ends_attach_client(&load.ends, index_of(argv[2])) < 0)
        fail("the client's end");
    load.fd = open_packet_socket(argv[2], true, own);
    prepare(&load, gateway, own, (uint16_t)atoi(argv[10]));
    take_first_core();
    measure(&load, atof(argv[12]));
    return 0;
}
