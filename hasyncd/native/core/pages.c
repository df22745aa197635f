#include "core/pages.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SMALL_PAGE = 4096 };

static size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

/* A mapping that begins at a huge page's border: what lies before and behind goes back. */
static void *map_aligned(size_t length)
{
    char *got = mmap(NULL, length + HS_HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (got == MAP_FAILED)
        return NULL;
    before = round_up((uintptr_t)got, HS_HUGE_PAGE) - (uintptr_t)got;
    if (before)
        munmap(got, before);
    if (before < HS_HUGE_PAGE)
        munmap(got + before + length, HS_HUGE_PAGE - before);
    return got + before;
}

void *hs_pages_alloc(size_t bytes)
{
    void *at;

    if (bytes < HS_HUGE_PAGE) { /* from the heap, whose bounds the sanitizers watch */
        size_t length = round_up(bytes, HS_CACHE_LINE);

        at = aligned_alloc(HS_CACHE_LINE, length);
        return at ? memset(at, 0, length) : NULL;
    }
    bytes = round_up(bytes, HS_HUGE_PAGE);
    at = map_aligned(bytes);
    if (!at)
        return NULL;
    madvise(at, bytes, MADV_HUGEPAGE); /* a kernel without them says no: slower, not wrong */
    for (size_t page = 0; page < bytes; page += SMALL_PAGE)
        ((volatile char *)at)[page] = 0;
    return at;
}

void hs_pages_free(void *at, size_t bytes)
{
    if (!at)
        return;
    if (bytes < HS_HUGE_PAGE)
        free(at);
    else
        munmap(at, round_up(bytes, HS_HUGE_PAGE));
}
