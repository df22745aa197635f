/* Packed records (proto/sync.md §3): bytes out, values in, and every rejection by its name. */
#include "core/record.h"

#include "check.h"

/* kind state flags 0 | handle | version | timeout_s | src_addr dst_addr | ports | nat_addr | nat_port 0 */
#define TCP_DNAT                                                                                   \
    "01 03 03 00 00000007 0102 1d10 cb007164 cb007105 c738 0050 0a000115 1f90 0000"
#define UDP_SNAT                                                                                   \
    "01 01 04 00 00000001 0001 012c 0a000107 08080808 c93b 0035 cb007105 9c44 0000"
#define ICMP_SNAT                                                                                  \
    "01 02 0a 00 00000002 ffff 003c 0a000107 08080808 1234 0000 cb007105 0400 0000"

#define TCP_BOTH                                                                                   \
    "05 01 01 00 00000005 0001 00f0 0a000107 cb007105 c93b 20fb 0a000109 01bb 0000 cb007105 9c44 0000"
#define ICMP_BOTH                                                                                  \
    "05 01 09 00 00000006 0001 003c 0a000107 cb007109 1234 0000 0a000109 0000 0000 cb007105 0400 0000"

static const struct {
    int number;
    const char *bytes;
    enum hs_rejection rejection;
    uint32_t size;
} cases[] = {
    {1, TCP_DNAT, HS_ACCEPTED, 32},
    {2, UDP_SNAT, HS_ACCEPTED, 32},
    {3, ICMP_SNAT, HS_ACCEPTED, 32},
    {4, "02 04 03 00 00000007 0102 00f0", HS_ACCEPTED, 12},
    {5, "03 00 00 00 00000007 0102 0000", HS_ACCEPTED, 12},
    {6, "03 03 00 00 00000007 0102 0000", HS_ACCEPTED, 12},
    {7, "04 00 00 00 00000007 0102 0000 00000001 0000000000000040 00000002 0000000000000080",
     HS_ACCEPTED, 36},
    {8, "02 09 00 00 00000007 0102 0000 ff", HS_ACCEPTED, 12}, /* what follows is another record's */
    {10, "", HS_RECORD_TRUNCATED, 0},
    {11, "00", HS_UNKNOWN_KIND, 0},
    {12, "07 00 00 00 00000007 0102 0000", HS_UNKNOWN_KIND, 0},
    {50, TCP_BOTH, HS_ACCEPTED, 40},
    {51, ICMP_BOTH, HS_ACCEPTED, 40},
    {52, "05 01 00 00 00000005 0001 00f0 0a000107 cb007105 c93b 20fb 0a000109 01bb 0000 cb007105 9c44 0000",
     HS_BAD_STATE, 0}, /* kind 5 is DNAT */
    {53, "05 01 01 00 00000005 0001 00f0 0a000107 cb007105 c93b 20fb 0a000109 01bb 0000 cb007105 9c44 0001",
     HS_NONZERO_PADDING, 0},
    {54, "05 01 09 00 00000006 0001 003c 0a000107 cb007109 1234 0000 0a000109 0001 0000 cb007105 0400 0000",
     HS_NONZERO_PADDING, 0}, /* an echo has one identifier */
    {55, "05 01 01 00 00000005 0001 00f0 0a000107 cb007105 c93b 20fb 0a000109 01bb 0000 cb007105 9c44 00",
     HS_RECORD_TRUNCATED, 0},
    {13, "ff", HS_UNKNOWN_KIND, 0},
    {14, "01", HS_RECORD_TRUNCATED, 0},
    {15, "02 04 03 00 00000007 0102 00", HS_RECORD_TRUNCATED, 0},
    {16, "01 03 03 00 00000007 0102 1d10 cb007164 cb007105 c738 0050 0a000115 1f90 00",
     HS_RECORD_TRUNCATED, 0},
    {17, "04 00 00 00 00000007 0102 0000 00000001 0000000000000040 00000002 00000000000000",
     HS_RECORD_TRUNCATED, 0},
    {20, "02 04 03 01 00000007 0102 00f0", HS_NONZERO_PADDING, 0},
    {21, "01 03 03 00 00000007 0102 1d10 cb007164 cb007105 c738 0050 0a000115 1f90 0001",
     HS_NONZERO_PADDING, 0},
    {22, "01 02 0a 00 00000002 ffff 003c 0a000107 08080808 1234 0001 cb007105 0400 0000",
     HS_NONZERO_PADDING, 0}, /* an echo has no second port */
    {23, "03 00 01 00 00000007 0102 0000", HS_NONZERO_PADDING, 0},
    {24, "03 00 00 00 00000007 0102 0001", HS_NONZERO_PADDING, 0},
    {25, "04 01 00 00 00000007 0102 0000 00000001 0000000000000040 00000002 0000000000000080",
     HS_NONZERO_PADDING, 0},
    {26, "04 00 00 00 00000007 0102 0001 00000001 0000000000000040 00000002 0000000000000080",
     HS_NONZERO_PADDING, 0},
    {30, "02 00 00 00 00000007 0102 00f0", HS_BAD_STATE, 0},
    {31, "02 0a 00 00 00000007 0102 00f0", HS_BAD_STATE, 0},
    {32, "02 03 04 00 00000007 0102 00f0", HS_BAD_STATE, 0}, /* UDP knows two */
    {33, "02 00 08 00 00000007 0102 00f0", HS_BAD_STATE, 0},
    {34, "02 01 0c 00 00000007 0102 00f0", HS_BAD_STATE, 0}, /* UDP and ICMP at once */
    {35, "02 01 10 00 00000007 0102 00f0", HS_BAD_STATE, 0}, /* a flag that does not travel */
    {36, "02 01 80 00 00000007 0102 00f0", HS_BAD_STATE, 0},
    {37, "03 04 00 00 00000007 0102 0000", HS_BAD_STATE, 0},
};

static void check_cases(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t room[64], *bytes;
        uint32_t length = hs_hex(cases[i].bytes, room, sizeof room), size = 0;
        struct hs_record record;
        enum hs_rejection rejection;

        bytes = malloc(length ? length : 1); /* so that a byte too far is seen */
        memcpy(bytes, room, length);
        rejection = hs_record_unpack(&record, bytes, length, &size);
        CHECK(cases[i].number, rejection, cases[i].rejection);
        if (!rejection)
            CHECK(cases[i].number, size, cases[i].size);
        free(bytes);
    }
}

static void check_tuple(int number, const struct hs_tuple *t, const char *src, uint16_t sport,
                        const char *dst, uint16_t dport, uint8_t proto)
{
    CHECK(number, t->src_addr, hs_ip(src));
    CHECK(number, t->dst_addr, hs_ip(dst));
    CHECK(number, ntohs(t->src_port), sport);
    CHECK(number, ntohs(t->dst_port), dport);
    CHECK(number, t->proto, proto);
    CHECK(number, t->family | t->zero[0] | t->zero[1], 0);
}

static struct hs_record unpack(const char *hex)
{
    uint8_t bytes[64];
    uint32_t length = hs_hex(hex, bytes, sizeof bytes), size;
    struct hs_record record;

    CHECK(0, hs_record_unpack(&record, bytes, length, &size), HS_ACCEPTED);
    return record;
}

static void check_values(void)
{
    struct hs_record r = unpack(TCP_DNAT);

    CHECK(1, r.kind, HS_ADD);
    CHECK(2, r.handle, 7);
    CHECK(3, r.version, 0x102);
    CHECK(4, r.timeout_s, 7440);
    CHECK(5, r.flags, HS_FLOW_DNAT | HS_FLOW_BOTH_SEEN);
    check_tuple(6, &r.tuple[0], "203.0.113.100", 51000, "203.0.113.5", 80, HS_TCP);
    check_tuple(7, &r.tuple[1], "10.0.1.21", 8080, "203.0.113.100", 51000, HS_TCP);
    r = unpack(UDP_SNAT);
    check_tuple(8, &r.tuple[0], "10.0.1.7", 51515, "8.8.8.8", 53, HS_UDP);
    check_tuple(9, &r.tuple[1], "8.8.8.8", 53, "203.0.113.5", 40004, HS_UDP);
    r = unpack(ICMP_SNAT);
    check_tuple(10, &r.tuple[0], "10.0.1.7", 0x1234, "8.8.8.8", 0, HS_ICMP);
    check_tuple(11, &r.tuple[1], "8.8.8.8", 0x400, "203.0.113.5", 0, HS_ICMP);
    r = unpack(cases[6].bytes);
    CHECK(12, r.packets[0], 1);
    CHECK(13, r.bytes[0], 0x40);
    CHECK(14, r.packets[1], 2);
    CHECK(15, r.bytes[1], 0x80);
}

/* What is read and put into a table is packed to the same bytes. */
static void check_round_trip(void)
{
    static const char *const adds[] = {TCP_DNAT, UDP_SNAT, ICMP_SNAT, TCP_BOTH, ICMP_BOTH};
    struct hs_flow_table *table = hs_flow_table_create(16, (struct hs_seed){1, 2});

    for (int i = 0; i < 5; i++) {
        uint8_t bytes[64], packed[HS_RECORD_MAX];
        uint32_t length = hs_hex(adds[i], bytes, sizeof bytes);
        struct hs_record r = unpack(adds[i]);
        struct hs_flow *flow = hs_flow_table_add_at(
            table, r.handle, r.version, r.tuple, r.state,
            (uint8_t)(r.flags | HS_FLOW_LIBERAL | HS_FLOW_AT_RISK), 5000 + r.timeout_s * 1000u);

        CHECK(i, hs_record_pack_flow(packed, HS_ADD, table, flow, 5000), length);
        CHECK(i, memcmp(packed, bytes, length), 0);
        hs_record_pack_flow(packed, HS_ADD, table, flow, 5999); /* a begun second counts */
        CHECK(i, memcmp(packed, bytes, length), 0);
        hs_record_pack_flow(packed, HS_UPDATE, table, flow, UINT64_MAX / 2); /* long overdue */
        CHECK(i, packed[10] | packed[11], 0);
        CHECK(i, hs_record_pack_del(packed, table, flow, HS_DEL_OPERATOR), 12);
        CHECK(i, packed[1], 3);
        CHECK(i, hs_record_pack_flow(packed, HS_COUNTERS, table, flow, 0), 36);
    }
    hs_flow_table_destroy(table);
}

static void check_names(void)
{
    for (int i = 0; i < HS_REJECTIONS; i++)
        CHECK(i, hs_rejection_name((enum hs_rejection)i) != NULL, true);
    CHECK(1, strcmp(hs_rejection_name(HS_STALE_VERSION), "stale_version"), 0);
    for (int kind = 0; kind < 256; kind++)
        CHECK(kind, hs_record_size((uint8_t)kind),
              kind == 1 ? 32 : kind == 2 || kind == 3 ? 12 : kind == 4 ? 36 : kind == 5 ? 40 : kind == 6 ? 68 : 0);
}

int main(void)
{
    check_cases();
    check_values();
    check_round_trip();
    check_names();
    return hs_check_result();
}
