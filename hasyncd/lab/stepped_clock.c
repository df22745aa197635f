/* LD_PRELOAD: a process whose wall clock is off by what a file says, while the machine's own clock stays as it is.
 *
 * CLOCK_REALTIME of a process cannot be stepped otherwise: time namespaces have no offset for it (time_namespaces(7)),
 * and settimeofday moves everybody's. The file named by HASYNCD_LAB_CLOCK is mapped: an int64 of nanoseconds to add, and
 * a uint64 that counts how often the stepped clock was read. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SECOND_NS = 1000000000 };

struct shared {
    int64_t offset_ns;
    uint64_t reads;
};

static struct shared *shared;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void map_file(void)
{
    const char *path = getenv("HASYNCD_LAB_CLOCK");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED)
        shared = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!real_clock_gettime)
        *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, now);

    if (result == 0 && shared && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t offset_ns = __atomic_load_n(&shared->offset_ns, __ATOMIC_RELAXED);

        __atomic_add_fetch(&shared->reads, 1, __ATOMIC_RELAXED);
        now->tv_sec += offset_ns / SECOND_NS;
        now->tv_nsec += offset_ns % SECOND_NS;
        if (now->tv_nsec >= SECOND_NS) {
            now->tv_sec++;
            now->tv_nsec -= SECOND_NS;
        } else if (now->tv_nsec < 0) {
            now->tv_sec--;
            now->tv_nsec += SECOND_NS;
        }
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return -1;
    *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *where)
{
    struct timespec precise;

    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return -1;
    if (where)
        *where = precise.tv_sec;
    return precise.tv_sec;
}
