/* Three targets for libFuzzer; HS_FUZZ_TARGET in the environment says which (fuzzing.py).
 *
 * They do not only look for bad accesses: what left has right checksums, every packet has one fate, every accepted record
 * can be told on, and a table that is emptied is empty.
 */
#include "core/checksum.h"
#include "gateway_fixture.h"

enum { FRAME_ROOM = 4096, ETHERNET = 14, PROTO = 9, INPUTS_PER_GATEWAY = 1000 };

static struct hs_gateway *gateway, *other;
static uint64_t now;
static bool all_valid; /* every frame of this input had right checksums, none was partial or offloaded */

static uint32_t get16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t header_length(const uint8_t *ip)
{
    return (ip[0] & 15u) * 4;
}

/* The folded sum of a packet's pseudo-header. */
static uint16_t pseudo_sum(const uint8_t *ip)
{
    uint8_t pseudo[12] = {0};
    uint32_t length = get16(ip + 2) - header_length(ip);

    memcpy(pseudo, ip + 12, 8);
    pseudo[9] = ip[PROTO];
    pseudo[10] = (uint8_t)(length >> 8);
    pseudo[11] = (uint8_t)length;
    return hs_checksum_sum(pseudo, sizeof pseudo);
}

static uint16_t l4_sum(const uint8_t *ip)
{
    uint32_t sum = hs_checksum_sum(ip + header_length(ip), get16(ip + 2) - header_length(ip));

    if (ip[PROTO] != HS_ICMP)
        sum += pseudo_sum(ip);
    return hs_checksum_fold(sum);
}

static uint32_t checksum_place(const uint8_t *ip)
{
    return header_length(ip) + (ip[PROTO] == HS_TCP ? 16 : ip[PROTO] == HS_UDP ? 6 : 2);
}

static bool is_ipv4(const uint8_t *frame, uint32_t length)
{
    const uint8_t *ip = frame + ETHERNET;

    return length >= ETHERNET + 20 && get16(frame + 12) == 0x0800 && ip[0] >> 4 == 4 && header_length(ip) >= 20 &&
           get16(ip + 2) >= header_length(ip) && length - ETHERNET >= get16(ip + 2);
}

static bool has_l4_checksum(const uint8_t *ip)
{
    return (ip[PROTO] == HS_TCP || ip[PROTO] == HS_UDP || ip[PROTO] == HS_ICMP) && !(get16(ip + 6) & 0x3fff) &&
           checksum_place(ip) + 2 <= get16(ip + 2);
}

/* The layer 4 of a whole IPv6 packet and the place of its checksum, or NULL. */
static uint8_t *l4_of_ipv6(uint8_t *frame, uint32_t length, uint32_t *bytes, uint8_t *proto, uint32_t *place)
{
    uint8_t *ip = frame + ETHERNET;
    uint32_t at = 40, end = 40 + (length >= ETHERNET + 40 ? get16(ip + 4) : 0);

    if (length < ETHERNET + 40 || ip[0] >> 4 != 6 || length - ETHERNET < end)
        return NULL;
    for (*proto = ip[6]; *proto == 0 || *proto == 43 || *proto == 44 || *proto == 60;) {
        uint32_t size = at + 8 > end ? 0 : *proto == 44 ? 8 : (ip[at + 1] + 1u) * 8;

        if (!size || at + size > end || (*proto == 44 && get16(ip + at + 2) & 0xfff9))
            return NULL;
        *proto = ip[at];
        at += size;
    }
    *bytes = end - at;
    *place = *proto == HS_TCP ? 16 : *proto == HS_UDP ? 6 : 2;
    return (*proto == HS_TCP || *proto == HS_UDP || *proto == 58) && *place + 2 <= *bytes ? ip + at : NULL;
}

static uint16_t sum_of_ipv6(const uint8_t *ip, const uint8_t *l4, uint32_t bytes, uint8_t proto)
{
    uint32_t sum = hs_checksum_sum(ip + 8, 32);

    return hs_checksum_fold(sum + htons((uint16_t)bytes) + htons(proto) + (uint64_t)hs_checksum_sum(l4, bytes));
}

static bool is_valid6(uint8_t *frame, uint32_t length)
{
    uint32_t bytes, place;
    uint8_t proto, *l4 = l4_of_ipv6(frame, length, &bytes, &proto, &place);

    return !l4 || (proto == HS_UDP && !get16(l4 + place)) || sum_of_ipv6(frame + ETHERNET, l4, bytes, proto) == 0xffff;
}

static void repair6(uint8_t *frame, uint32_t length)
{
    uint32_t bytes, place;
    uint8_t proto, *l4;
    uint16_t sum;

    if (length >= ETHERNET + 40) {
        frame[18] = (uint8_t)((length - ETHERNET - 40) >> 8);
        frame[19] = (uint8_t)(length - ETHERNET - 40);
    }
    l4 = l4_of_ipv6(frame, length, &bytes, &proto, &place);
    if (!l4)
        return;
    memset(l4 + place, 0, 2);
    sum = (uint16_t)~sum_of_ipv6(frame + ETHERNET, l4, bytes, proto);
    if (proto == HS_UDP && !sum)
        sum = 0xffff;
    memcpy(l4 + place, &sum, 2);
}

static bool is_ipv6(const uint8_t *frame, uint32_t length)
{
    return length >= ETHERNET && get16(frame + 12) == 0x86dd;
}

static bool is_valid(uint8_t *frame, uint32_t length)
{
    const uint8_t *ip = frame + ETHERNET;

    if (is_ipv6(frame, length))
        return is_valid6(frame, length);
    if (!is_ipv4(frame, length))
        return true;
    if (hs_checksum_sum(ip, header_length(ip)) != 0xffff)
        return false;
    return !has_l4_checksum(ip) || (ip[PROTO] == HS_UDP && !get16(ip + checksum_place(ip))) || l4_sum(ip) == 0xffff;
}

/* Puts in what a sender would have: lengths, then checksums. */
static void repair(uint8_t *frame, uint32_t length)
{
    uint8_t *ip = frame + ETHERNET;
    uint16_t sum;

    if (is_ipv6(frame, length)) {
        repair6(frame, length);
        return;
    }
    if (length >= ETHERNET + 20) {
        ip[2] = (uint8_t)((length - ETHERNET) >> 8);
        ip[3] = (uint8_t)(length - ETHERNET);
    }
    if (!is_ipv4(frame, length))
        return;
    memset(ip + 10, 0, 2);
    sum = (uint16_t)~hs_checksum_sum(ip, header_length(ip));
    memcpy(ip + 10, &sum, 2);
    if (!has_l4_checksum(ip))
        return;
    memset(ip + checksum_place(ip), 0, 2);
    sum = (uint16_t)~l4_sum(ip);
    if (ip[PROTO] == HS_UDP && !sum)
        sum = 0xffff;
    memcpy(ip + checksum_place(ip), &sum, 2);
}

static void look(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame, uint32_t length)
{
    volatile uint8_t byte = 0;

    (void)context, (void)side, (void)vnet;
    for (uint32_t i = 0; i < length; i++)
        byte ^= frame[i]; /* every byte that leaves was there */
    if (all_valid)
        CHECK(1, is_valid(frame, length), true);
}

static struct hs_gateway *make(void)
{
    struct hs_gateway *g =
        hs_fixture_create((struct hs_gateway_limits){.capacity = 64, .log_records = 256, .held_packets = 8,
                                                     .held_bytes = 16384}, (struct hs_output){look, NULL});

    g->policy = (struct hs_policy){8, true, true};
    hs_fixture_arm(g, second);
    return g;
}

/* The next piece of an input: a control byte, two of length, the bytes, in memory of its own with the room behind it that
 * a received frame has. */
static uint8_t *next_piece(const uint8_t **data, size_t *size, uint8_t *control, uint32_t *length)
{
    uint8_t *frame;

    if (*size < 3)
        return NULL;
    *control = (*data)[0];
    *length = get16(*data + 1) % FRAME_ROOM;
    *data += 3;
    *size -= 3;
    if (*length > *size)
        *length = (uint32_t)*size;
    frame = malloc(*length + 64);
    memcpy(frame, *data, *length);
    *data += *length;
    *size -= *length;
    return frame;
}

/* ARP and neighbour discovery that the kernel may want: neither answered nor wrong. */
static bool is_passed_over(uint8_t *frame, uint32_t length, const struct hs_counters *before)
{
    struct hs_counters after = gateway->counters;
    uint32_t bytes, place;
    uint8_t proto, *l4 = is_ipv6(frame, length) ? l4_of_ipv6(frame, length, &bytes, &proto, &place) : NULL;
    bool is_discovery = l4 && proto == 58 && l4[0] >= 133 && l4[0] <= 137;

    after.received_packets = before->received_packets;
    after.received_bytes = before->received_bytes;
    return length >= ETHERNET && (is_discovery || get16(frame + 12) == 0x0806) &&
           memcmp(&after, before, sizeof after) == 0;
}

static void fuzz_receive(const uint8_t *data, size_t size)
{
    uint8_t control, *frame;
    uint32_t length;
    uint64_t passed_over = 0;
    static uint64_t inputs;

    if (inputs++ % INPUTS_PER_GATEWAY == 0) { /* else the last input left it empty */
        hs_gateway_destroy(gateway);
        gateway = make();
        now = 0;
    }
    memset(&gateway->counters, 0, sizeof gateway->counters);
    gateway->icmp_tokens_at_ns = 0;
    now += 1000 * second; /* nothing of the last input is held down */
    for (all_valid = true; (frame = next_piece(&data, &size, &control, &length)); free(frame)) {
        struct hs_vnet vnet = {.flags = control & 2 ? HS_VNET_NEEDS_CSUM : 0, .gso_type = control >> 2 & 1,
                               .gso_size = 700, .hdr_len = control};
        struct hs_counters before = gateway->counters;

        if (control & 8)
            repair(frame, length);
        all_valid = all_valid && !(control & 6) && is_valid(frame, length);
        hs_gateway_receive(gateway, control & 1, &vnet, frame, length, now);
        passed_over += is_passed_over(frame, length, &before);
        now += control & 16 ? second : 1000;
        if (control & 32)
            hs_gateway_tick(gateway, now);
        if (control & 64)
            hs_gateway_set_commit(gateway, control >> 2 & 1 ? HS_COMMIT_ACK : HS_COMMIT_NONE, second / 20, control & 1, now);
    }
    hs_gateway_set_commit(gateway, HS_COMMIT_NONE, second, true, now);
    for (int i = 0; i < 2; i++)
        hs_gateway_tick(gateway, now += 5 * second);
    check_every_packet_has_one_fate(gateway, passed_over, 2);
    hs_gateway_tick(gateway, now += 8000 * second);
    check_nothing_is_left(gateway, 3);
}

/* There and back again is where one was. The first twelve bytes are the new ends, the next what the kernel said. */
static void fuzz_rewrite(const uint8_t *data, size_t size)
{
    struct hs_vnet vnet = {0};
    struct hs_packet p;
    struct hs_tuple to, from;
    uint8_t *frame, *ip;
    uint32_t length = (uint32_t)size - 13;
    uint16_t sum;

    if (size < 13 || length > FRAME_ROOM)
        return;
    frame = malloc(length + 1);
    memcpy(frame, data + 13, length);
    repair(frame, length);
    ip = frame + ETHERNET;
    vnet.flags = data[12] & 1;
    if (hs_packet_parse(&p, &vnet, frame, length) == HS_PACKET_FLOW && (!vnet.flags || p.tuple.proto != HS_ICMP)) {
        from = to = p.tuple;
        memcpy(&to.src_addr, data, 4);
        memcpy(&to.dst_addr, data + 4, 4);
        memcpy(&to.src_port, data + 8, 2);
        if (to.proto != HS_ICMP)
            memcpy(&to.dst_port, data + 10, 2);
        if (vnet.flags) {
            sum = pseudo_sum(ip);
            memcpy(ip + checksum_place(ip), &sum, 2);
        }
        for (int back = 0; back < 2; back++) {
            hs_packet_rewrite(&p, back ? &from : &to);
            memcpy(&sum, ip + checksum_place(ip), 2);
            if (vnet.flags)
                CHECK(10, sum % 0xffff, pseudo_sum(ip) % 0xffff); /* 0 and 0xffff are one number */
            else
                CHECK(11, is_valid(frame, length) && (sum || ip[PROTO] != HS_UDP), true); /* 0 would mean: none made */
            if (ip[8] > 1)
                hs_packet_decrement_ttl(&p);
            CHECK(12, hs_checksum_sum(ip, header_length(ip)), 0xffff);
            CHECK(13, hs_packet_parse(&p, &vnet, frame, length), HS_PACKET_FLOW);
            CHECK(14, hs_tuple_equal(&p.tuple, back ? &from : &to), true);
        }
    }
    free(frame);
}

/* Hostile suspects, hostile records: what is kept of digests is what memory says. */
static void sync_some(struct hs_gateway *g, const uint8_t *data, size_t size, int number)
{
    static struct hs_suspects suspects;
    uint32_t capacity = size ? data[0] % g->table->capacity + 1 : 1;
    enum hs_rejection rejection;

    if (!hs_suspects_load(&suspects, capacity, data, size < 9 ? size : data[1] % 9u))
        return;
    hs_gateway_begin_sync(g, &suspects);
    hs_gateway_install(g, data, (uint32_t)size, now, &rejection);
    hs_gateway_end_sync(g);
    for (uint32_t slot = 0; slot < g->table->capacity; slot += HS_GRAIN_SLOTS)
        CHECK(number, hs_bucket_recount(g->table, slot), true);
}

/* Whatever a peer sends: what was accepted can be told on, and the table can be emptied. */
static void fuzz_install(const uint8_t *data, size_t size)
{
    static uint8_t records[1 << 14];
    uint32_t appended, count, length;
    enum hs_rejection rejection;
    uint8_t *exact = malloc(size ? size : 1);

    gateway = gateway ? gateway : make();
    other = other ? other : make();
    gateway->active = other->active = false;
    hs_gateway_reset(gateway, (struct hs_seed){1, 2});
    hs_gateway_reset(other, (struct hs_seed){1, 2});
    memcpy(exact, data, size);
    hs_gateway_begin_sync(gateway, NULL);
    hs_gateway_install(gateway, exact, (uint32_t)size, now += second, &rejection);
    hs_gateway_end_sync(gateway);
    hs_gateway_start_snapshot(gateway, NULL, false);
    hs_delta_log_rewind(&gateway->log, gateway->log.next);
    hs_gateway_append_snapshot(gateway, UINT32_MAX, now, &appended);
    length = hs_delta_log_drain(&gateway->log, records, sizeof records, &count);
    hs_gateway_begin_sync(other, NULL);
    CHECK(20, hs_gateway_install(other, records, length, now, &rejection), gateway->table->count);
    hs_gateway_end_sync(other);
    CHECK(21, other->table->digest, gateway->table->digest);
    sync_some(other, exact, size, 25);
    free(exact);
    for (int i = 0; i < 2; i++) {
        struct hs_gateway *g = i ? other : gateway;

        hs_gateway_begin_sync(g, NULL);
        hs_gateway_end_sync(g);
        check_nothing_is_left(g, 22 + i);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void (*target)(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const struct {
        const char *name;
        void (*run)(const uint8_t *data, size_t size);
    } targets[] = {{"receive", fuzz_receive}, {"rewrite", fuzz_rewrite}, {"install", fuzz_install}};
    const char *wanted = getenv("HS_FUZZ_TARGET");

    (void)argc, (void)argv;
    for (int i = 0; i < 3; i++)
        if (wanted && !strcmp(wanted, targets[i].name))
            target = targets[i].run;
    if (!target) {
        fputs("HS_FUZZ_TARGET is receive, rewrite or install\n", stderr);
        exit(2);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    target(data, size);
    if (hs_failures) {
        fflush(stdout);
        abort();
    }
    return 0;
}
