#include "io/packet_thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BUDGET = 256 }; /* packets between two looks at the other side and at `stop` */

struct hs_packet_thread {
    pthread_t thread;
    struct hs_packet_io *io;
    struct hs_gateway *gateway;
    uint64_t told; /* the log's next sequence when `news` was last raised */
    int epoll, news, stop;
};

static void tell_news(struct hs_packet_thread *t)
{
    uint64_t next, one = 1;

    hs_packet_io_lock(t->io);
    next = t->gateway->log.next;
    hs_packet_io_unlock(t->io);
    if (next == t->told)
        return;
    t->told = next;
    if (write(t->news, &one, sizeof one) < 0)
        return; /* EAGAIN: it has been readable 2^64 times already */
}

static void *run(void *context)
{
    struct hs_packet_thread *t = context;
    struct epoll_event events[HS_SIDES + 1];

    for (;;) {
        int count = epoll_wait(t->epoll, events, HS_SIDES + 1, -1);

        for (int i = 0; i < count; i++)
            if (events[i].data.fd == t->stop)
                return NULL;
        /* An error of a downed interface is read, and so cleared, by the receive itself. */
        if (count > 0 && hs_packet_io_poll(t->io, t->gateway, BUDGET) > 0)
            tell_news(t);
    }
}

static int watch(struct hs_packet_thread *t, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(t->epoll, EPOLL_CTL_ADD, fd, &event);
}

static void release(struct hs_packet_thread *t)
{
    int descriptors[] = {t->epoll, t->news, t->stop};

    for (int i = 0; i < 3; i++)
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
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    t->news = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    t->stop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    error = t->epoll < 0 || t->news < 0 || t->stop < 0 || watch(t, t->stop) ? errno : 0;
    for (int side = 0; !error && side < HS_SIDES; side++)
        error = watch(t, hs_packet_io_descriptor(io, side)) ? errno : 0;
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
