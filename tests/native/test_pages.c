/* Large arrays: zeroed, aligned, writable to the last byte; small ones come from the heap. */
#include "core/pages.h"

#include "check.h"

int main(void)
{
    static const size_t sizes[] = {1, 64, 4095, HS_HUGE_PAGE - 1, HS_HUGE_PAGE, HS_HUGE_PAGE + 1, 3 * HS_HUGE_PAGE};

    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t bytes = sizes[i], dirty = 0;
        uint8_t *at = hs_pages_alloc(bytes);

        CHECK(i, at != NULL, true);
        CHECK(i, (uintptr_t)at % (bytes < HS_HUGE_PAGE ? HS_CACHE_LINE : HS_HUGE_PAGE), 0);
        for (size_t k = 0; k < bytes; k++)
            dirty += at[k] != 0;
        CHECK(i, dirty, 0);
        memset(at, 0xff, bytes);
        hs_pages_free(at, bytes);
    }
    CHECK(100, hs_pages_alloc((size_t)1 << 56) == NULL, true); /* more than there is */
    hs_pages_free(NULL, HS_HUGE_PAGE);
    return hs_check_result();
}
