/* The Internet checksum: whole, and every incremental change equal to summing anew. */
#include "core/checksum.h"

#include "check.h"

/* RFC 1071 §3: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2. */
static const struct {
    int number;
    const char *bytes;
    uint16_t sum; /* host order */
} sums[] = {
    {1, "0001f203f4f5f6f7", 0xddf2},
    {2, "", 0x0000},
    {3, "01", 0x0100}, /* an odd length is padded with a zero byte */
    {4, "0001f203f4f5f6", 0xdcfb},
    {5, "ffff", 0xffff},
    {6, "ffff0001", 0x0001},
    {7, "ffffffff", 0xffff},
    {8, "4500003044224000800600008c7c19acae241e2b", 0xbbd1}, /* checksum 442e */
};

static uint32_t random_state = 1;

static uint32_t next_random(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

/* A header of ten words with its checksum in word 5; words 6-9 (two addresses) are then replaced. */
static void check_incremental(int number, bool extreme)
{
    uint16_t words[10], changed[10], old, want;
    uint32_t delta = 0;

    for (int i = 0; i < 10; i++)
        words[i] = (uint16_t)(extreme ? (next_random() & 1 ? 0xffff : 0) : next_random());
    words[5] = 0;
    old = (uint16_t)~hs_checksum_sum(words, sizeof words);
    memcpy(changed, words, sizeof words);
    for (int i = 6; i < 10; i++)
        changed[i] = (uint16_t)(extreme ? (next_random() & 1 ? 0xffff : 0) : next_random());
    want = (uint16_t)~hs_checksum_sum(changed, sizeof changed);
    for (int i = 6; i < 10; i += 2) {
        uint32_t from, to;

        memcpy(&from, &words[i], 4);
        memcpy(&to, &changed[i], 4);
        delta += hs_checksum_delta32(from, to);
    }
    changed[5] = hs_checksum_apply(old, delta);
    /* 0 and 0xffff are the same number (RFC 1624); what a receiver does is to sum, and that must give 0xffff. */
    if (want != 0xffff && want != 0)
        CHECK(number, changed[5], want);
    if (!extreme)
        CHECK(number, hs_checksum_sum(changed, sizeof changed), 0xffff);
    /* A partial checksum is the uncomplemented sum. */
    CHECK(number, hs_checksum_apply_partial((uint16_t)~old, delta) % 0xffff, (uint16_t)~want % 0xffff);
}

static void check_edges(void)
{
    CHECK(1, hs_checksum_fold(0x1fffe), 0xffff);
    CHECK(2, hs_checksum_fold(0xffffffffffffffffu), 0xffff);
    CHECK(3, hs_checksum_delta16(0x1234, 0x1234), 0xffff); /* -0: no change */
    CHECK(4, hs_checksum_apply(0x1234, 0xffff), 0x1234);
    CHECK(5, hs_checksum_apply(0xdd2f, hs_checksum_delta16(0x5555, 0x3285)), 0x0000); /* RFC 1624 §4 */
    CHECK(6, hs_checksum_apply_partial(0, 0), 0);
}

int main(void)
{
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        uint8_t bytes[64];
        uint32_t length = hs_hex(sums[i].bytes, bytes, sizeof bytes);

        CHECK(sums[i].number, ntohs(hs_checksum_sum(bytes, length)), sums[i].sum);
    }
    check_edges();
    for (int i = 0; i < 20000; i++)
        check_incremental(i, false);
    for (int i = 0; i < 2000; i++)
        check_incremental(i, true);
    return hs_check_result();
}
