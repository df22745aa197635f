/* The keeper is a process that shares the daemon's memory and nothing else, and sleeps until the daemon is dead.
 *
 * do_exit() tears down the memory (exit_mm) before it closes the files (exit_files), so the peer hears of a killed
 * daemon only when the tables are freed: 8 ms for the default table. While somebody else uses
 * the same memory, exit_mm frees nothing, the files are closed at once, and the teardown is the
 * keeper's, a little later. It costs no memory: there is one.
 *
 * It runs on the daemon's own thread-local storage (no CLONE_SETTLS), so it must not touch errno: none of its system
 * calls can fail. All signals but SIGKILL are blocked: the daemon's handlers are copied with the process and must not
 * run there. */
#include "io/memory_keeper.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STACK_BYTES = 16384 };

static alignas(16) char stack[STACK_BYTES];

static long close_all_from(unsigned int first, unsigned int last)
{
    return syscall(SYS_close_range, first, last, 0);
}

/* `daemon` is a pidfd: it becomes readable when the last thread of the daemon is gone, its files closed before. */
static int keep(void *daemon)
{
    int fd = (int)(intptr_t)daemon;
    struct pollfd dead = {.fd = fd, .events = POLLIN};

    prctl(PR_SET_NAME, "hasyncd-memory");
    setpriority(PRIO_PROCESS, 0, 19); /* nobody waits for the teardown */
    if (fd > 0)
        close_all_from(0, (unsigned int)fd - 1); /* a copy of each socket would keep it open */
    close_all_from((unsigned int)fd + 1, ~0u);
    syscall(SYS_ppoll, &dead, 1, NULL, NULL, 0);
    syscall(SYS_exit, 0);
    return 0;
}

int hs_memory_keeper_start(void)
{
    sigset_t all, before;
    int fd, pid;

    if (close_all_from(~0u, ~0u)) /* Linux 5.9; the keeper cannot find out without an errno */
        return -errno;
    fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd < 0)
        return -errno;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid = clone(keep, stack + STACK_BYTES, CLONE_VM, (void *)(intptr_t)fd);
    if (pid < 0)
        pid = -errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(fd);
    return pid;
}
