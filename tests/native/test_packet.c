/* Frames taken apart and rewritten: hex in, hex out. The Ethernet header is put in front of every packet here. */
#include "core/packet.h"

#include "core/checksum.h"

#include "check.h"

/* A frame of exactly its length on the heap, so that a byte too far is seen. */
static uint8_t *make_frame(const char *packet, uint32_t *length)
{
    uint8_t bytes[256] = {0};
    uint8_t *frame;

    bytes[12] = 0x08;
    *length = 14 + hs_hex(packet, bytes + 14, sizeof bytes - 14);
    frame = malloc(*length);
    memcpy(frame, bytes, *length);
    hs_sum_header(frame, *length);
    return frame;
}

static struct hs_tuple tuple(const char *src, uint16_t sport, const char *dst, uint16_t dport,
                             uint8_t proto)
{
    return (struct hs_tuple){.src_addr = hs_ip(src), .dst_addr = hs_ip(dst), .src_port = htons(sport),
                             .dst_port = htons(dport), .proto = proto};
}

/* 10.0.1.7:51515 -> 8.8.8.8:53 becomes 203.0.113.5:40004 -> 8.8.8.8:53; echo 0x1234 becomes 0x400. */
static const struct {
    int number;
    uint8_t flags; /* of the virtio header */
    const char *in, *out;
} rewrites[] = {
    /* TCP SYN */
    {1, 0, "450000281234400040060d860a00010708080808c93b00350000000100000002500203e8c7700000",
     "45000028123440004006dc86cb007105080808089c4400350000000100000002500203e8c3680000"},
    /* TCP, an odd length */
    {2, 0, "4500002b1234400040060d830a00010708080808c93b00350000000100000002501003e802fd0000616263",
     "4500002b123440004006dc83cb007105080808089c4400350000000100000002501003e8fef40000616263"},
    {3, 0, "450000211234400040110d820a00010708080808c93b0035000dcb647175657279",
     "45000021123440004011dc82cb007105080808089c440035000dc75c7175657279"},
    /* UDP without a checksum stays without */
    {4, 0, "450000211234400040110d820a00010708080808c93b0035000d00007175657279",
     "45000021123440004011dc82cb007105080808089c440035000d00007175657279"},
    /* the new sum is 0, which UDP writes as ffff */
    {5, 0, "450000201234400040110d830a00010708080808c93b0035000c040800001747",
     "45000020123440004011dc83cb007105080808089c440035000cffff00001747"},
    /* the old one was */
    {6, 0, "450000201234400040110d830a00010708080808c93b0035000cffff00001b4f",
     "45000020123440004011dc83cb007105080808089c440035000cfbf700001b4f"},
    /* IPv4 options */
    {7, 0, "46000021123440004011787d0a0001070808080894040000c93b00350009a35478",
     "46000021123440004011477ecb00710508080808940400009c44003500099f4c78"},
    {8, 0, "450000201234400040010d930a00010708080808080006fa1234000170696e67",
     "45000020123440004001dc93cb007105080808080800152e0400000170696e67"},
    /* partial: the field holds the pseudo-header's sum, which knows no ports */
    {9, HS_VNET_NEEDS_CSUM,
     "4500002c1234400040060d820a00010708080808c93b00350000000100000002501003e81b35000064617461",
     "4500002c123440004006dc82cb007105080808089c4400350000000100000002501003e84c34000064617461"},
    {10, HS_VNET_NEEDS_CSUM, "450000201234400040110d830a00010708080808c93b0035000c1b3464617461",
     "45000020123440004011dc83cb007105080808089c440035000c4c3364617461"},
    /* verified by the hardware is not partial */
    {11, HS_VNET_DATA_VALID, "450000211234400040110d820a00010708080808c93b0035000dcb647175657279",
     "45000021123440004011dc82cb007105080808089c440035000dc75c7175657279"},
};

static void check_rewrites(void)
{
    for (size_t i = 0; i < sizeof rewrites / sizeof *rewrites; i++) {
        struct hs_vnet vnet = {.flags = rewrites[i].flags};
        uint32_t length, wanted;
        uint8_t *frame = make_frame(rewrites[i].in, &length);
        uint8_t *want = make_frame(rewrites[i].out, &wanted), *again = make_frame(rewrites[i].in, &wanted);
        struct hs_packet p;
        struct hs_tuple to, from;
        bool echo = frame[14 + 9] == HS_ICMP;

        CHECK(rewrites[i].number, hs_packet_parse(&p, &vnet, frame, length), HS_PACKET_FLOW);
        from = p.tuple;
        to = tuple("203.0.113.5", echo ? 0x400 : 40004, "8.8.8.8", echo ? 0 : 53, p.tuple.proto);
        CHECK(rewrites[i].number,
              hs_tuple_equal(&from, &(struct hs_tuple){
                                        .src_addr = hs_ip("10.0.1.7"), .dst_addr = hs_ip("8.8.8.8"),
                                        .src_port = htons(echo ? 0x1234 : 51515),
                                        .dst_port = htons(echo ? 0 : 53), .proto = to.proto}),
              true);
        hs_packet_rewrite(&p, &to);
        CHECK(rewrites[i].number, hs_tuple_equal(&p.tuple, &to), true);
        CHECK(rewrites[i].number, length == wanted && !memcmp(frame, want, length), true);
        hs_packet_rewrite(&p, &from); /* and back */
        CHECK(rewrites[i].number, memcmp(frame, again, length), 0);
        free(frame);
        free(want);
        free(again);
    }
}

static const struct {
    int number;
    const char *packet;
    enum hs_packet_kind kind;
} kinds[] = {
    {1, "450000281234400040060d860a00010708080808c93b00350000000100000002500203e8c7700000", HS_PACKET_FLOW},
    {2, "450000281234400040060d860a00010708080808c93b00350000000100000002500203e8c7700000ffff",
     HS_PACKET_FLOW}, /* padding behind the packet */
    {3, "450000281234400040060d860a00010708080808c93b00350000000100000002500203e8c770000000", HS_PACKET_FLOW},
    {10, "", HS_PACKET_MALFORMED},
    {11, "450000281234400040060d860a0001070808", HS_PACKET_MALFORMED},
    {12, "450000281234400040060d860a00010708080808c93b00350000000100000002500203e8c77000",
     HS_PACKET_MALFORMED}, /* one byte short */
    {13, "650000281234400040060d860a00010708080808c93b00350000000100000002500203e8c7700000",
     HS_PACKET_MALFORMED}, /* version 6 */
    {14, "440000281234400040060d860a00010708080808c93b00350000000100000002500203e8c7700000",
     HS_PACKET_MALFORMED}, /* a header of 16 bytes */
    {15, "4f0000281234400040060d860a00010708080808c93b00350000000100000002500203e8c7700000",
     HS_PACKET_MALFORMED}, /* of 60, in 40 */
    {16, "450000131234400040060d860a00010708080808c93b00350000000100000002500203e8c7700000",
     HS_PACKET_MALFORMED}, /* the whole shorter than its header */
    {17, "450000271234400040060d860a00010708080808c93b00350000000100000002500203e8c7700000",
     HS_PACKET_MALFORMED}, /* 19 bytes of TCP */
    {18, "450000281234400040060d860a00010708080808c93b00350000000100000002400203e8c7700000",
     HS_PACKET_MALFORMED}, /* a TCP header of 16 bytes */
    {19, "450000281234400040060d860a00010708080808c93b00350000000100000002600203e8c7700000",
     HS_PACKET_MALFORMED}, /* of 24, in 20 */
    {20, "450000141234400040060d860a00010708080808", HS_PACKET_MALFORMED},
    {21, "4500001b1234400040110d820a00010708080808c93b0035000dcb", HS_PACKET_MALFORMED}, /* 7 bytes of UDP */
    {22, "4500001c1234400040110d820a00010708080808c93b0035000d0000", HS_PACKET_MALFORMED}, /* says 13, has 8 */
    {23, "4500001c1234400040110d820a00010708080808c93b003500070000", HS_PACKET_MALFORMED}, /* says 7 */
    {24, "4500001c1234400040110d820a00010708080808c93b003500080000", HS_PACKET_FLOW},
    {25, "4500001b1234400040010d930a00010708080808080006fa123400", HS_PACKET_MALFORMED}, /* 7 bytes of ICMP */
    {26, "4500001c1234400040010d930a00010708080808080006fa12340000", HS_PACKET_FLOW},
    {30, "4500001c1234200040110d820a00010708080808c93b003500080000", HS_PACKET_FRAGMENT}, /* the first */
    {31, "4500001c1234200140110d820a00010708080808c93b003500080000", HS_PACKET_FRAGMENT},
    {32, "4500001c1234000140110d820a00010708080808c93b003500080000", HS_PACKET_FRAGMENT}, /* the last */
    {33, "450000151234000140060d820a00010708080808c9", HS_PACKET_FRAGMENT}, /* whatever is in it */
    {34, "4500001c1234400040110d820a00010708080808c93b003500080000", HS_PACKET_FLOW},     /* DF is none */
    {40, "4500001c12344000402f0d820a00010708080808c93b003500080000", HS_PACKET_OTHER},    /* GRE */
    {41, "4500001c1234400040010d930a000107080808080d0006fa12340000", HS_PACKET_OTHER},    /* timestamp */
    {42, "4500001c1234400040010d930a00010708080808050006fa12340000", HS_PACKET_OTHER},    /* redirect */
    /* errors: a UDP packet quoted with 8 bytes, then everything that is wrong with a quotation */
    {50, "45000038123440004001c256c6336401cb007105 0304941800000500"
         "45000021123440004011dc82cb00710508080808 9c440035000dc75c", HS_PACKET_ICMP_ERROR},
    {51, "45000038123440004001c256c6336401cb007105 0b04cecc00000500"
         "45000020123440004001dc93cb00710508080808 0800152e04000001", HS_PACKET_ICMP_ERROR},
    {52, "4500001c123440004001c256c6336401cb007105 0304941800000500", HS_PACKET_MALFORMED}, /* nothing */
    {53, "4500002f123440004001c256c6336401cb007105 0304941800000500"
         "45000021123440004011dc82cb007105080808", HS_PACKET_MALFORMED},
    {54, "45000038123440004001c256c6336401cb007105 0304941800000500"
         "65000021123440004011dc82cb00710508080808 9c440035000dc75c", HS_PACKET_MALFORMED},
    {55, "45000038123440004001c256c6336401cb007105 0304941800000500"
         "44000021123440004011dc82cb00710508080808 9c440035000dc75c", HS_PACKET_MALFORMED},
    {56, "45000038123440004001c256c6336401cb007105 0304941800000500"
         "48000021123440004011dc82cb00710508080808 9c440035000dc75c", HS_PACKET_MALFORMED},
    {57, "45000037123440004001c256c6336401cb007105 0304941800000500"
         "45000021123440004011dc82cb00710508080808 9c440035000dc7", HS_PACKET_OTHER}, /* no whole port pair */
    {58, "45000038123440004001c256c6336401cb007105 0304941800000500"
         "45000021123400014011dc82cb00710508080808 9c440035000dc75c", HS_PACKET_OTHER}, /* a later fragment */
    {59, "45000038123440004001c256c6336401cb007105 0304941800000500"
         "4500002112342000 4011dc82cb00710508080808 9c440035000dc75c", HS_PACKET_ICMP_ERROR}, /* the first */
    {60, "45000038123440004001c256c6336401cb007105 0b04cecc00000500"
         "45000020123440004001dc93cb00710508080808 0304152e04000001", HS_PACKET_OTHER}, /* about an error */
    {61, "45000038123440004001c256c6336401cb007105 0304941800000500"
         "4500002112344000402fdc82cb00710508080808 9c440035000dc75c", HS_PACKET_OTHER}, /* about GRE */
};

static void check_kinds(void)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint32_t length;
        uint8_t *frame = make_frame(kinds[i].packet, &length);
        struct hs_vnet vnet = {0};
        struct hs_packet p;

        CHECK(kinds[i].number, hs_packet_parse(&p, &vnet, frame, length), kinds[i].kind);
        if (length > 24) {
            frame[24] ^= 1; /* the header's checksum */
            CHECK(kinds[i].number, hs_packet_parse(&p, &vnet, frame, length), HS_PACKET_MALFORMED);
            frame[24] ^= 1;
        }
        frame[12] = 0x86;
        CHECK(kinds[i].number, hs_packet_parse(&p, &vnet, frame, length), HS_PACKET_MALFORMED);
        free(frame);
    }
}

/* Every shorter frame of a good one, on a heap block of its own length. */
static void check_truncations(void)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint32_t length;
        uint8_t *whole = make_frame(kinds[i].packet, &length);

        for (uint32_t cut = 0; cut < length; cut++) {
            uint8_t *frame = malloc(cut ? cut : 1);
            struct hs_vnet vnet = {0};
            struct hs_packet p;

            memcpy(frame, whole, cut);
            if (cut < 34)
                CHECK(cut, hs_packet_parse(&p, &vnet, frame, cut), HS_PACKET_MALFORMED);
            else
                hs_packet_parse(&p, &vnet, frame, cut);
            free(frame);
        }
        free(whole);
    }
}

static void check_details(void)
{
    uint32_t length;
    uint8_t *frame = make_frame(kinds[1].packet, &length);
    struct hs_vnet vnet = {0};
    struct hs_packet p;

    hs_packet_parse(&p, &vnet, frame, length);
    CHECK(1, hs_packet_frame_length(&p), 14 + 40); /* the padding is not passed on */
    CHECK(2, p.tcp_flags, 2);
    CHECK(3, p.l4_length, 20);
    for (int ttl = 63; ttl >= 0; ttl--) {
        hs_packet_decrement_ttl(&p);
        CHECK(ttl, p.ip->ttl, ttl);
        CHECK(ttl, hs_checksum_sum(p.ip, 20), 0xffff);
    }
    free(frame);
    frame = make_frame(kinds[0].packet, &length);
    free(frame);
    frame = make_frame("45000038123440004001c256c6336401cb007105 0304941800000500"
                       "45000021123440004011dc82cb00710508080808 9c440035000dc75c", &length);
    hs_packet_parse(&p, &vnet, frame, length);
    CHECK(4, p.icmp_type, 3);
    CHECK(5, p.tuple.src_addr, hs_ip("203.0.113.5")); /* the quoted packet's */
    CHECK(6, ntohs(p.tuple.src_port), 40004);
    CHECK(7, p.tuple.proto, HS_UDP);
    CHECK(8, (uint8_t *)p.inner - frame, 14 + 28);
    free(frame);
}

static void check_inversion(void)
{
    struct hs_tuple t = tuple("10.0.1.7", 1, "8.8.8.8", 2, HS_TCP), inverted = hs_tuple_invert(&t);
    struct hs_tuple echo = tuple("10.0.1.7", 77, "8.8.8.8", 0, HS_ICMP), answer = hs_tuple_invert(&echo);

    CHECK(1, inverted.src_addr == t.dst_addr && inverted.dst_port == t.src_port, true);
    CHECK(2, answer.src_addr == echo.dst_addr && answer.src_port == echo.src_port, true);
    CHECK(3, answer.dst_port, 0);
    inverted = hs_tuple_invert(&inverted);
    answer = hs_tuple_invert(&answer);
    CHECK(4, hs_tuple_equal(&inverted, &t), true);
    CHECK(5, hs_tuple_equal(&answer, &echo), true);
}

int main(void)
{
    check_rewrites();
    check_kinds();
    check_truncations();
    check_details();
    check_inversion();
    return hs_check_result();
}
