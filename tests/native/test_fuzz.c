/* Bounded fuzzing with a seeded mutator: what a wire and a peer can say must never harm the core.
 *
 * HS_FUZZ_ROUNDS in the environment makes it longer. Under the sanitizers a bad access ends the program.
 */
#include <time.h>

#include "gateway_fixture.h"

enum { FRAME_ROOM = 2048, ROUNDS = 60000, SECONDS = 15 };

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) * limit >> 32);
}

static void discard(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    volatile uint8_t byte = 0;

    (void)context, (void)side, (void)vnet;
    for (uint32_t i = 0; i < length; i++)
        byte ^= frame[i]; /* every byte that leaves was there */
}

static struct hs_gateway *set_up(void)
{
    struct hs_gateway *g =
        hs_fixture_create((struct hs_gateway_limits){64, 64, 8, 16384, NULL}, (struct hs_output){discard, NULL});

    g->policy = (struct hs_policy){8, true, true};
    hs_fixture_arm(g, second);
    return g;
}

/* Frames that a mutation of a few bytes leaves nearly right. */
static const char *const corpus[] = {
    /* UDP 10.0.1.7:5000 -> 8.8.8.8:53 */
    "020202020202 060606060606 0800 4500001d1234 0000 4011 0000 0a000107 08080808 1388 0035 0009 0000 78",
    /* TCP SYN 10.0.1.7:5001 -> 8.8.8.8:80 */
    "020202020202 060606060606 0800 450000281234 4000 4006 0000 0a000107 08080808 1389 0050 00000001 00000002 "
    "5002 03e8 0000 0000",
    /* TCP SYN to the service, and to the forward from inside */
    "020202020202 060606060606 0800 450000281234 4000 4006 0000 c6336409 cb007105 1389 0050 00000001 00000002 "
    "5002 03e8 0000 0000",
    "020202020202 060606060606 0800 450000281234 4000 4006 0000 0a000107 cb007106 1389 20fb 00000001 00000002 "
    "5002 03e8 0000 0000",
    /* a first fragment and a later one */
    "020202020202 060606060606 0800 450000241234 2000 4011 0000 0a000107 08080808 1388 0035 0109 0000 "
    "7878787878787878",
    "020202020202 060606060606 0800 4500001c1234 0001 4011 0000 0a000107 08080808 7878787878787878",
    /* an echo, and an error about the UDP packet */
    "020202020202 060606060606 0800 450000241234 0000 4001 0000 0a000107 08080808 0800 0000 0007 0001 7878787878787878",
    "020202020202 060606060606 0800 450000381234 0000 4001 0000 08080808 cb007106 0301 0000 00000000 "
    "4500001d1234 0000 3f11 0000 cb007106 08080808 9c40 0035 0009 0000",
    /* ARP for the inside VIP */
    "ffffffffffff 060606060606 0806 0001 0800 06 04 0001 060606060606 0a000107 000000000000 0a000101",
#define HOST6 "20010db8000100000000000000000007"
#define SERVER6 "20014860486000000000000000008888"
#define CLIENT6 "20010db8000500000000000000000009"
#define VIP6 "20010db8000200000000000000000005"
#define ETHERNET6 "020202020202 060606060606 86dd "
#define DATAGRAM6 "1388 0035 0009 0d14 78"
    /* UDP out, TCP SYN to the service, an echo out */
    ETHERNET6 "60000000 0009 11 40" HOST6 SERVER6 DATAGRAM6,
    ETHERNET6 "60000000 0014 06 40" CLIENT6 VIP6 "1389 0050 00000001 00000002 5002 03e8 0000 0000",
    ETHERNET6 "60000000 0010 3a 40" HOST6 SERVER6 "8000 0000 0007 0001 7878787878787878",
    /* the same behind hop-by-hop options, destination options, a routing header and a lonely fragment header */
    ETHERNET6 "60000000 0039 00 40" HOST6 SERVER6 "3c00 010400000000 2b00 010400000000 2c02 0200 00000000 "
              "010e 0000000000000000000000000000 1100 0000 00000007" DATAGRAM6,
    /* a first fragment and a later one */
    ETHERNET6 "60000000 0018 2c 40" HOST6 SERVER6 "1100 0001 00001234 1388 0035 0109 0000 7878787878787878",
    ETHERNET6 "60000000 0010 2c 40" HOST6 SERVER6 "1100 0010 00001234 7878787878787878",
    /* errors about the datagram, with a right checksum and with none: "packet too big", "time exceeded" */
    ETHERNET6 "60000000 0039 3a 40" SERVER6 HOST6 "0200 fc94 00000578 60012345 0009 11 3f" HOST6 SERVER6 DATAGRAM6,
    ETHERNET6 "60000000 0039 3a 40" SERVER6 HOST6 "0300 0000 00000000 60012345 0009 11 3f" HOST6 SERVER6 DATAGRAM6,
    /* a solicitation for the inside VIP, and an echo to it */
    "3333ff000001 060606060606 86dd 60000000 0020 3a ff" HOST6 "ff0200000000000000000001ff000001 8700 0c10 00000000 "
    "20010db8000100000000000000000001 0101 060606060606",
    ETHERNET6 "60000000 0010 3a 40" HOST6 "20010db8000100000000000000000001 8000 424f 0007 0001 7878787878787878",
};
enum { CORPUS = sizeof corpus / sizeof *corpus };

static uint32_t mutate(uint8_t *frame, uint32_t length, uint32_t room)
{
    uint32_t changes = random_below(6);

    for (uint32_t i = 0; i < changes && length; i++) {
        uint32_t at = random_below(length);

        switch (random_below(5)) {
        case 0: frame[at] ^= (uint8_t)(1u << random_below(8)); break;
        case 1: frame[at] = (uint8_t)random_below(256); break;
        case 2: frame[at] = (uint8_t)(random_below(2) ? 0xff : 0); break;
        case 3: length = at; break;
        case 4: length += random_below(room - length < 64 ? room - length + 1 : 64); break;
        }
    }
    if (length > 14 && frame[12] == 8 && random_below(8))
        hs_sum_header(frame, length); /* else few would get further than that */
    return length;
}

/* Every frame lies in its own memory, with as much room behind it as a received one has: one byte too far is seen. */
static void fuzz_receive(uint32_t rounds)
{
    struct hs_gateway *g = set_up();
    uint64_t now = 2 * second;
    time_t end = time(NULL) + SECONDS;

    for (uint32_t round = 0; round < rounds && (round % 1024 || time(NULL) < end); round++) {
        uint8_t made[FRAME_ROOM] = {0};
        uint32_t length = mutate(made, hs_hex(corpus[random_below(CORPUS)], made, sizeof made), sizeof made);
        struct hs_vnet vnet = {.flags = (uint8_t)(random_below(8) ? 0 : random_below(4)),
                               .gso_type = (uint8_t)(random_below(16) ? 0 : 1),
                               .gso_size = (uint16_t)random_below(2000)};
        uint8_t *frame = malloc(length + 64);

        memcpy(frame, made, length);
        if (random_below(2)) /* what a host behind NAT would answer: ports of flows that live */
            frame[length ? random_below(length) : 0] = (uint8_t)random_below(256);
        hs_gateway_receive(g, (int)random_below(2), &vnet, frame, length, now);
        free(frame);
        now += random_below(20000000);
        if (round % 16 == 0)
            hs_gateway_tick(g, now);
        if (round % 4096 == 0)
            hs_gateway_set_commit(g, (enum hs_commit)random_below(3), second / 20, random_below(2), now);
    }
    CHECK(2, g->counters.flows_created > 100, true);
    CHECK(3, g->counters.fragments_forwarded > 10, true);
    CHECK(4, g->counters.icmp_errors_translated + g->counters.drop_icmp_unrelated > 10, true);
    CHECK(12, g->counters.pass_flows > 100 && g->counters.drop_extension_header > 10, true);
    CHECK(13, g->counters.ndp_answered > 10 && g->counters.drop_scope > 10, true);
    hs_gateway_destroy(g);
}

static void fuzz_parser(uint32_t rounds)
{
    for (uint32_t round = 0; round < rounds; round++) {
        uint8_t made[FRAME_ROOM] = {0};
        uint32_t length = mutate(made, hs_hex(corpus[random_below(CORPUS)], made, sizeof made), sizeof made);
        uint8_t *exact = malloc(length ? length : 1);
        struct hs_packet p;

        memcpy(exact, made, length);
        if (hs_packet_parse(&p, NULL, exact, length) == HS_PACKET_FLOW ||
            hs_packet6_parse(&p, (struct hs_seed){1, 2}, NULL, exact, length) == HS_PACKET_FLOW)
            CHECK(round, (uint32_t)(p.l4 - exact) + p.l4_length <= length, true);
        free(exact);
    }
}

/* Whatever a peer sends: the table stays whole and can be emptied. */
static void fuzz_records(uint32_t rounds)
{
    static const char *const records[] = {
        "01 03 03 00 00000007 0102 1d10 cb007164 cb007105 c738 0050 0a000115 1f90 0000",
        "01 01 04 00 00000001 0001 012c 0a000107 08080808 c93b 0035 cb007106 9c44 0000",
        "01 02 0a 00 00000002 ffff 003c 0a000107 08080808 1234 0000 cb007106 9c41 0000",
        "05 01 01 00 00000005 0001 00f0 0a000107 cb007106 c93b 20fb 0a000109 01bb 0000 cb007106 9c44 0000",
        "02 04 03 00 00000007 0102 00f0",
        "03 00 00 00 00000007 0102 0000",
        "04 00 00 00 00000007 0102 0000 00000001 0000000000000040 00000002 0000000000000080",
        "06 01 01 00 00000008 0001 00f0" CLIENT6 VIP6 "20010db8000100000000000000000009 1389 0050 1f90 0000",
        "06 02 0a 00 00000009 0001 003c" HOST6 SERVER6 HOST6 "0007 0000 0007 0000",
    };
    struct hs_gateway *g = set_up();
    uint64_t accepted = 0;

    hs_gateway_disarm(g);
    for (uint32_t round = 0; round < rounds; round++) {
        uint8_t made[256] = {0}, *exact;
        enum hs_rejection rejection;
        uint32_t length = hs_hex(records[random_below(sizeof records / sizeof *records)], made, sizeof made);

        if (random_below(2))
            made[7] = (uint8_t)random_below(70); /* the handle's last byte */
        if (random_below(2))
            length = mutate(made, length, sizeof made);
        exact = malloc(length ? length : 1);
        memcpy(exact, made, length);
        accepted += hs_gateway_install(g, exact, length, round * second / 10, &rejection);
        free(exact);
        if (round % 512 == 0)
            hs_gateway_begin_sync(g, NULL);
        if (round % 512 == 300)
            hs_gateway_end_sync(g);
    }
    CHECK(5, accepted > rounds / 10, true);
    hs_gateway_begin_sync(g, NULL);
    hs_gateway_end_sync(g);
    CHECK(6, g->table->count, 0);
    CHECK(7, g->table->digest, 0);
    CHECK(8, g->sources.used, 0);
    hs_gateway_destroy(g);
}

/* --- batches ------------------------------------------------------------------------------ */

enum { BATCH_MAX = 150, OUT_ROOM = 1 << 20 };

struct recorder {
    uint8_t bytes[OUT_ROOM]; /* whatever left, in order */
    uint32_t length;
};

static void record(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    struct recorder *r = context;

    if (r->length + 1 + sizeof *vnet + 4 + length > OUT_ROOM)
        abort();
    r->bytes[r->length] = (uint8_t)side;
    memcpy(r->bytes + r->length + 1, vnet, sizeof *vnet);
    memcpy(r->bytes + r->length + 11, &length, 4);
    memcpy(r->bytes + r->length + 15, frame, length);
    r->length += 15 + length;
}

/* Answers to the flows of the corpus: to whichever public port they were given. */
static uint32_t make_answer(uint8_t *frame)
{
    uint32_t length =
        hs_hex(random_below(2) ? "020202020202 060606060606 0800 4500001d1234 0000 4011 0000 08080808 cb007106 "
                                 "0035 9c40 0009 0000 78"
                               : "020202020202 060606060606 0800 450000281234 4000 4006 0000 08080808 cb007106 "
                                 "0050 9c40 00000001 00000002 5010 03e8 0000 0000",
               frame, FRAME_ROOM);

    frame[37] = (uint8_t)(0x40 + random_below(32));
    if (frame[23] == HS_TCP)
        frame[47] = (uint8_t)(random_below(4) ? 0x12 : random_below(64)); /* SYN and ACK, or anything */
    hs_sum_header(frame, length);
    return length;
}

static void check_same(uint32_t round, const struct hs_gateway *a, const struct hs_gateway *b,
                       const struct recorder *out_a, const struct recorder *out_b)
{
    CHECK(round, out_a->length, out_b->length);
    CHECK(round, memcmp(out_a->bytes, out_b->bytes, out_a->length), 0);
    CHECK(round, memcmp(&a->counters, &b->counters, sizeof a->counters), 0);
    CHECK(round, a->table->count, b->table->count);
    CHECK(round, a->table->digest, b->table->digest);
    CHECK(round, a->log.next, b->log.next);
    CHECK(round, memcmp(a->log.entries, b->log.entries, a->log.capacity * sizeof *a->log.entries), 0);
}

/* A batch is no different from its packets one by one: not in what leaves, nor in what is counted, kept or told. */
static void fuzz_batches(uint32_t rounds)
{
    struct recorder *out[2] = {malloc(sizeof *out[0]), malloc(sizeof *out[1])};
    struct hs_gateway *g[2] = {set_up(), set_up()};
    uint64_t now = 2 * second;

    for (int which = 0; which < 2; which++)
        g[which]->output = (struct hs_output){record, out[which]};
    for (uint32_t round = 0; round < rounds; round++) {
        struct hs_received batch[2][BATCH_MAX];
        struct hs_vnet vnet[2][BATCH_MAX] = {0};
        uint32_t count = random_below(8) ? random_below(BATCH_MAX + 1) : random_below(4);
        int side = (int)random_below(2);

        for (uint32_t i = 0; i < count; i++) {
            uint8_t made[FRAME_ROOM] = {0};
            uint32_t length = side == HS_OUTSIDE && random_below(4)
                                  ? make_answer(made)
                                  : hs_hex(corpus[random_below(CORPUS)], made, sizeof made);

            if (random_below(2))
                length = mutate(made, length, sizeof made);
            for (int which = 0; which < 2; which++) {
                batch[which][i] = (struct hs_received){&vnet[which][i], malloc(length + 64), length};
                memcpy(batch[which][i].frame, made, length);
            }
        }
        out[0]->length = out[1]->length = 0;
        hs_gateway_receive_batch(g[0], side, batch[0], count, now);
        for (uint32_t i = 0; i < count; i++)
            hs_gateway_receive(g[1], side, batch[1][i].vnet, batch[1][i].frame, batch[1][i].length, now);
        check_same(round, g[0], g[1], out[0], out[1]);
        now += random_below(20000000) * (random_below(16) ? 1ull : 500);
        for (int which = 0; which < 2; which++) {
            for (uint32_t i = 0; i < count; i++)
                free(batch[which][i].frame);
            hs_gateway_tick(g[which], now);
            if (round % 64 == 63)
                hs_gateway_set_commit(g[which], (enum hs_commit)(round / 64 % 3), second / 20, round & 128, now);
            g[which]->lease_until_ns = round % 200 < 190 ? UINT64_MAX : now;
        }
        check_same(round, g[0], g[1], out[0], out[1]);
    }
    CHECK(9, g[0]->counters.flows_created > rounds / 10, true);
    CHECK(10, g[0]->counters.sent_packets > rounds * 10, true);
    CHECK(11, g[0]->counters.held_packets > 10 && g[0]->counters.drop_tcp_invalid > 10, true);
    for (int which = 0; which < 2; which++) {
        hs_gateway_destroy(g[which]);
        free(out[which]);
    }
}

int main(void)
{
    const char *wanted = getenv("HS_FUZZ_ROUNDS");
    uint32_t rounds = wanted ? (uint32_t)strtoul(wanted, NULL, 10) : ROUNDS;

    fuzz_parser(rounds);
    fuzz_receive(rounds);
    fuzz_records(rounds);
    fuzz_batches(rounds / 60);
    return hs_check_result();
}
