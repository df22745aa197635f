/* The delta log: sequences, wrapping, overrun, sending again. Capacity 16. */
#include "core/delta_log.h"

#include "check.h"

static struct hs_delta_log log_;

static void append(uint32_t count, uint8_t kind)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *out = hs_delta_log_append(&log_, log_.next * 10)->record;

        memset(out, 0, HS_RECORD_MAX);
        out[0] = kind;
        out[4] = (uint8_t)(log_.next - 1);
    }
}

/* Drains and says how many; *first is the sequence in the first record's handle byte. */
static uint32_t drain(uint32_t room, uint32_t *used, uint8_t *first)
{
    uint8_t out[1024] = {0};
    uint32_t count;

    *used = hs_delta_log_drain(&log_, out, room, &count);
    *first = out[4];
    return count;
}

static void check_sending(void)
{
    uint32_t used;
    uint8_t first;

    CHECK(1, hs_delta_log_init(&log_, 10, NULL), true);
    CHECK(2, log_.capacity, 16); /* rounded up */
    CHECK(3, hs_delta_log_oldest(&log_), 1);
    CHECK(4, drain(1024, &used, &first), 0);
    append(3, HS_ADD);
    append(2, HS_UPDATE);
    CHECK(5, drain(31, &used, &first), 0); /* not even one fits */
    CHECK(6, log_.send_next, 1);
    CHECK(7, drain(32 + 32 + 31, &used, &first), 2);
    CHECK(8, used, 64);
    CHECK(9, first, 1);
    CHECK(10, drain(1024, &used, &first), 3);
    CHECK(11, used, 32 + 12 + 12);
    CHECK(12, first, 3);
    CHECK(13, drain(0, &used, &first), 0);
    CHECK(14, hs_delta_log_entry(&log_, 4)->at_ns, 40);
    CHECK(15, hs_delta_log_rewind(&log_, 2), true);
    CHECK(16, drain(1024, &used, &first), 4);
    CHECK(17, first, 2);
    hs_delta_log_free(&log_);
}

static void check_wrapping(void)
{
    uint32_t used;
    uint8_t first;

    hs_delta_log_init(&log_, 16, NULL);
    append(16, HS_DEL);
    CHECK(1, log_.overrun, false); /* full, nothing overwritten */
    CHECK(2, hs_delta_log_oldest(&log_), 1);
    append(1, HS_DEL);
    CHECK(3, log_.overrun, true); /* 1 was not acknowledged */
    CHECK(4, hs_delta_log_oldest(&log_), 2);
    CHECK(5, log_.send_next, 2); /* 1 cannot be sent any more */
    CHECK(6, hs_delta_log_rewind(&log_, 1), false);
    CHECK(7, log_.overrun, true);
    CHECK(8, hs_delta_log_rewind(&log_, 0), false);
    CHECK(9, hs_delta_log_rewind(&log_, 2), true);
    CHECK(10, log_.overrun, false);
    CHECK(11, hs_delta_log_rewind(&log_, 18), true); /* everything is there */
    CHECK(12, hs_delta_log_rewind(&log_, 19), false);
    CHECK(13, hs_delta_log_rewind(&log_, 2), true);
    CHECK(14, drain(1024, &used, &first), 16);
    CHECK(15, first, 2);
    hs_delta_log_free(&log_);
}

/* Acknowledged in time, a log runs for ever. */
static void check_long_run(void)
{
    uint32_t used;
    uint8_t first;

    hs_delta_log_init(&log_, 16, NULL);
    for (int round = 0; round < 1000; round++) {
        append(7, round % 2 ? HS_ADD : HS_COUNTERS);
        CHECK(round, drain(1024, &used, &first), 7);
        CHECK(round, first, (uint8_t)(round * 7 + 1));
        log_.acknowledged = log_.next - 1;
        CHECK(round, log_.overrun, false);
    }
    append(16, HS_ADD);
    CHECK(1, log_.overrun, false);
    append(1, HS_ADD);
    CHECK(2, log_.overrun, true);
    hs_delta_log_free(&log_);
}

int main(void)
{
    check_sending();
    check_wrapping();
    check_long_run();
    return hs_check_result();
}
