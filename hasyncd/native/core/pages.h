/* Memory for the arrays that packets hit at random: zeroed, on cache lines, in huge pages where there are some.
 *
 * A gigabyte in pages of 4 KiB costs a walk through the page tables with nearly every lookup. All of it is there from
 * the start: a huge page takes 0.1 ms to come, and 5 ms in a virtual machine whose host has to find it first; no
 * packet shall wait for that, and what memory a gateway needs is seen when it starts, not when it is busiest.
 */
#ifndef HS_PAGES_H
#define HS_PAGES_H

#include <stddef.h>

enum { HS_CACHE_LINE = 64, HS_HUGE_PAGE = 2 << 20 };

/* NULL: no memory. Freed by hs_pages_free with the same `bytes`. */
void *hs_pages_alloc(size_t bytes);
void hs_pages_free(void *at, size_t bytes);

#endif
