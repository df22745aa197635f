#include "io/packet_thread.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    BUDGET = 256, /* packets between two looks at whether there is news to tell */
    ROUNDS = 16,  /* of these between two looks at `stop` */
};

struct hs_packet_thread {
    pthread_t thread;
    struct hs_packet_io *io;
    struct hs_gateway *gateway;
    uint64_t told; /* the log's next sequence when `news` was last raised */
    int news, stop;
};

static void tell_news(struct hs_packet_thread *t)
{
    uint64_t next = hs_packet_io_logged(t->io), one = 1;

    if (next == t->told)
        return;
    t->told = next;
    if (write(t->news, &one, sizeof one) < 0)
        return; /* EAGAIN: it has been readable 2^64 times already */
}

/* poll(2) and not epoll: a descriptor that lies in an epoll set costs its waker a callback for every packet, asleep or
 * not, and of what is sent too. False: the thread shall end. */
static bool wait_for_packets(const struct hs_packet_thread *t)
{
    struct pollfd watched[HS_SIDES + 1] = {{.fd = t->stop, .events = POLLIN}};

    for (int side = 0; side < HS_SIDES; side++)
        watched[1 + side] = (struct pollfd){.fd = hs_packet_io_descriptor(t->io, side), .events = POLLIN};
    poll(watched, HS_SIDES + 1, -1);
    return !watched[0].revents;
}

static void *run(void *context)
{
    struct hs_packet_thread *t = context;

    while (wait_for_packets(t)) {
        /* An error of a downed interface is read, and so cleared, by the receive itself. */
        int rounds = 0, count;

        do {
            count = hs_packet_io_poll(t->io, t->gateway, BUDGET);
            if (count > 0)
                tell_news(t);
        } while (count == BUDGET && ++rounds < ROUNDS);
    }
    return NULL;
}

static void release(struct hs_packet_thread *t)
{
    int descriptors[] = {t->news, t->stop};

    for (int i = 0; i < 2; i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
    free(t);
}

/* Signals are the interpreter's: a thread that is made inherits the mask. */
static int start_masked(struct hs_packet_thread *t)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&t->thread, NULL, run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

struct hs_packet_thread *hs_packet_thread_start(struct hs_packet_io *io, struct hs_gateway *gateway)
{
    struct hs_packet_thread *t = calloc(1, sizeof *t);
    int error;

    if (!t)
        return NULL;
    t->io = io;
    t->gateway = gateway;
    t->news = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    t->stop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    error = t->news < 0 || t->stop < 0 ? errno : 0;
    if (!error)
        error = start_masked(t);
    if (error) {
        release(t);
        errno = error;
        return NULL;
    }
    return t;
}

void hs_packet_thread_stop(struct hs_packet_thread *t)
{
    uint64_t one = 1;

    if (write(t->stop, &one, sizeof one) == sizeof one)
        pthread_join(t->thread, NULL);
    release(t);
}

int hs_packet_thread_news(const struct hs_packet_thread *t)
{
    return t->news;
}
