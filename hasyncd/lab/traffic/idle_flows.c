/* Idle UDP flows that fill the tables: one process opens them through NAT, the other answers each.
 *
 *     idle_flows sink ADDRESS PORT-FIRST PORTS
 *     idle_flows open SOURCE TARGET PORT-FIRST PORTS FLOWS
 *
 * Every pair of a source port and a sink port is a flow, so a thousand sockets on either side make a million; to NAT
 * each port of the sink is a destination of its own, with all public ports to choose from. A flow counts when its own
 * question was answered, so both directions were forwarded. They are opened as fast as answers come: at most WINDOW
 * questions are under way, and those that stay without an answer are asked again. When all were answered nothing is
 * sent until IDLE_S later; from then on each is refreshed once in REFRESH_S, before it ages out.
 *
 * One line of JSON five times a second: {"answered": flows, "cpu_s": seconds}; the sink says {"ready": true} once. Both
 * end when standard input closes: the lab is gone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, EVENTS = 1024, DATAGRAM = 64, WINDOW = 2048 };
enum { WAIT_MS = 5, IDLE_S = 120, REFRESH_S = 60 };
#define REPORT_S 0.2
#define PATIENCE_S 0.3 /* without any answer for so long, what is under way is lost */
#define MOST_BEHIND_S 0.1 /* of refreshes that were due while there was no CPU */

struct batch {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_in names[BATCH];
    uint8_t data[BATCH][DATAGRAM];
};

struct opener {
    int *sockets;
    struct in_addr target;
    uint16_t port_first;
    uint32_t ports;
    uint64_t flows, answered, next, under_way;
    uint64_t *seen; /* a bit a flow: it had an answer */
    double heard, all_answered, owed, refreshed;
    int epoll;
};

static struct batch batch;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "idle_flows: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_s(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static struct in_addr address_of(const char *text)
{
    struct in_addr address;

    if (inet_pton(AF_INET, text, &address) != 1) {
        fprintf(stderr, "idle_flows: %s is no IPv4 address\n", text);
        exit(2);
    }
    return address;
}

/* A socket of that address in `epoll`, known there by `number`. */
static int open_socket(int epoll, struct in_addr address, uint16_t port, uint32_t number)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = address, .sin_port = htons(port)};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)))
        fail("opening a socket");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
    return fd;
}

/* `count` sockets, and standard input as number `count`. */
static int *open_sockets(int epoll, struct in_addr address, uint16_t port_first, uint32_t count)
{
    struct epoll_event input = {.events = EPOLLIN, .data.u32 = count};
    int *sockets = calloc(count, sizeof(*sockets));

    if (!sockets)
        fail("calloc");
    for (uint32_t i = 0; i < count; i++)
        sockets[i] = open_socket(epoll, address, port_first ? (uint16_t)(port_first + i) : 0, i);
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input))
        fail("epoll_ctl");
    return sockets;
}

static bool input_has_ended(void)
{
    char order[4096];
    ssize_t got = read(0, order, sizeof(order));

    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

/* What has come to a socket, at most a batch of it; 0: nothing. */
static int receive(int fd)
{
    for (int i = 0; i < BATCH; i++) {
        batch.parts[i] = (struct iovec){batch.data[i], DATAGRAM};
        batch.messages[i].msg_hdr = (struct msghdr){
            .msg_iov = &batch.parts[i], .msg_iovlen = 1,
            .msg_name = &batch.names[i], .msg_namelen = sizeof(batch.names[i]),
        };
    }
    int got = recvmmsg(fd, batch.messages, BATCH, MSG_DONTWAIT, NULL);

    return got < 0 ? 0 : got;
}

static void run_sink(struct in_addr address, uint16_t port_first, uint32_t ports)
{
    static struct epoll_event events[EVENTS];
    int epoll = epoll_create1(0);
    int *sockets = open_sockets(epoll, address, port_first, ports);

    printf("{\"ready\": true}\n");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < count; i++) {
            uint32_t number = events[i].data.u32;

            if (number == ports && input_has_ended())
                return;
            int got = number == ports ? 0 : receive(sockets[number]);

            for (int k = 0; k < got; k++)
                batch.parts[k].iov_len = batch.messages[k].msg_len;
            if (got)
                sendmmsg(sockets[number], batch.messages, (unsigned)got, MSG_DONTWAIT);
        }
    }
}

static bool was_answered(const struct opener *opener, uint64_t flow)
{
    return opener->seen[flow / 64] >> flow % 64 & 1;
}

/* Asks for up to `most` flows from `next` on, all of one socket: those that were not answered, or `all`. Returns how
 * many were asked for; 0 says that the walk is at its end. */
static uint64_t ask(struct opener *opener, uint64_t most, bool all)
{
    uint64_t asked = 0;

    while (!asked && opener->next < opener->flows) {
        uint64_t place = opener->next / opener->ports, end = (place + 1) * opener->ports;

        for (; opener->next < end && opener->next < opener->flows && asked < most; opener->next++) {
            if (!all && was_answered(opener, opener->next))
                continue;
            uint16_t port = (uint16_t)(opener->port_first + opener->next % opener->ports);

            batch.names[asked] = (struct sockaddr_in){AF_INET, htons(port), opener->target, {0}};
            memcpy(batch.data[asked], "idle flow", 9);
            batch.parts[asked] = (struct iovec){batch.data[asked], 9};
            batch.messages[asked].msg_hdr = (struct msghdr){
                .msg_iov = &batch.parts[asked], .msg_iovlen = 1,
                .msg_name = &batch.names[asked], .msg_namelen = sizeof(batch.names[asked]),
            };
            asked++;
        }
        if (asked)
            sendmmsg(opener->sockets[place], batch.messages, (unsigned)asked, 0);
    }
    return asked;
}

/* Marks whose answers these are. */
static void note_answers(struct opener *opener, uint32_t place, int got)
{
    for (int k = 0; k < got; k++) {
        uint32_t port = ntohs(batch.names[k].sin_port) - (uint32_t)opener->port_first;
        uint64_t flow = (uint64_t)place * opener->ports + port;

        if (batch.names[k].sin_addr.s_addr != opener->target.s_addr || port >= opener->ports || flow >= opener->flows)
            continue;
        opener->under_way -= opener->under_way > 0;
        opener->answered += !was_answered(opener, flow);
        opener->seen[flow / 64] |= (uint64_t)1 << flow % 64;
    }
}

static void open_more(struct opener *opener, double now)
{
    if (opener->under_way && now - opener->heard > PATIENCE_S) {
        opener->under_way = 0;
        opener->heard = now;
    }
    while (opener->under_way < WINDOW) {
        uint64_t asked = ask(opener, BATCH, false);

        opener->under_way += asked;
        if (asked)
            continue;
        if (!opener->under_way)
            opener->next = 0; /* those that were lost, once more */
        return;
    }
}

static void refresh(struct opener *opener, double now)
{
    double rate = (double)opener->flows / REFRESH_S;

    if (now - opener->all_answered < IDLE_S) {
        opener->refreshed = now;
        return;
    }
    opener->owed += (now - opener->refreshed) * rate;
    opener->refreshed = now;
    if (opener->owed > rate * MOST_BEHIND_S + BATCH)
        opener->owed = rate * MOST_BEHIND_S + BATCH;
    while (opener->owed >= 1) {
        uint64_t asked = ask(opener, opener->owed < BATCH ? (uint64_t)opener->owed : BATCH, true);

        opener->owed -= (double)asked;
        if (!asked)
            opener->next = 0;
    }
}

static void run_opener(struct opener *opener)
{
    static struct epoll_event events[EVENTS];
    uint32_t count = (uint32_t)((opener->flows + opener->ports - 1) / opener->ports);
    double report_due = 0;

    for (;;) {
        double now = now_s();

        if (opener->answered < opener->flows)
            open_more(opener, now);
        else
            refresh(opener, now);
        if (now >= report_due) {
            report_due = now + REPORT_S;
            printf("{\"answered\": %llu, \"cpu_s\": %.3f}\n", (unsigned long long)opener->answered, cpu_s());
            fflush(stdout);
        }
        int ready = epoll_wait(opener->epoll, events, EVENTS, WAIT_MS);

        for (int i = 0; i < ready; i++) {
            uint32_t place = events[i].data.u32;

            if (place == count) {
                if (input_has_ended())
                    return;
                continue;
            }
            note_answers(opener, place, receive(opener->sockets[place]));
            opener->heard = now;
        }
        if (opener->answered == opener->flows && opener->all_answered == 0) {
            opener->all_answered = opener->refreshed = now_s();
            opener->next = 0;
        }
    }
}

static int usage(void)
{
    fprintf(stderr, "idle_flows: sink ADDRESS PORT-FIRST PORTS | open SOURCE TARGET PORT-FIRST PORTS FLOWS\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    static struct opener opener;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc == 5 && !strcmp(argv[1], "sink")) {
        run_sink(address_of(argv[2]), (uint16_t)atoi(argv[3]), (uint32_t)atoi(argv[4]));
        return 0;
    }
    if (argc != 7 || strcmp(argv[1], "open"))
        return usage();
    opener.target = address_of(argv[3]);
    opener.port_first = (uint16_t)atoi(argv[4]);
    opener.ports = (uint32_t)atoi(argv[5]);
    opener.flows = strtoull(argv[6], NULL, 10);
    if (!opener.ports || !opener.flows)
        return usage();
    opener.seen = calloc(opener.flows / 64 + 1, sizeof(*opener.seen));
    opener.epoll = epoll_create1(0);
    if (!opener.seen || opener.epoll < 0)
        fail("starting");
    opener.sockets = open_sockets(opener.epoll, address_of(argv[2]), 0,
                                  (uint32_t)((opener.flows + opener.ports - 1) / opener.ports));
    opener.heard = now_s();
    run_opener(&opener);
    return 0;
}
