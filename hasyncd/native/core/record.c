#include "core/record.h"

#include <stdbool.h>

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, (uint16_t)(value >> 16));
    put16(at + 2, (uint16_t)value);
}

static void put64(uint8_t *at, uint64_t value)
{
    put32(at, (uint32_t)(value >> 32));
    put32(at + 4, (uint32_t)value);
}

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static uint64_t get64(const uint8_t *at)
{
    return (uint64_t)get32(at) << 32 | get32(at + 4);
}

const char *hs_rejection_name(enum hs_rejection rejection)
{
    static const char *const names[HS_REJECTIONS] = {
        [HS_ACCEPTED] = "accepted",
        [HS_UNKNOWN_KIND] = "unknown_kind",
        [HS_RECORD_TRUNCATED] = "record_truncated",
        [HS_NONZERO_PADDING] = "nonzero_padding",
        [HS_BAD_STATE] = "bad_state",
        [HS_BAD_ADDRESS] = "bad_address",
        [HS_HANDLE_OUT_OF_RANGE] = "handle_out_of_range",
        [HS_UNKNOWN_HANDLE] = "unknown_handle",
        [HS_STALE_VERSION] = "stale_version",
        [HS_NO_MEMORY] = "no_memory",
    };

    return names[rejection];
}

uint32_t hs_record_size(uint8_t kind)
{
    switch (kind) {
    case HS_ADD:
        return HS_ADD_SIZE;
    case HS_UPDATE:
    case HS_DEL:
        return HS_SHORT_SIZE;
    case HS_COUNTERS:
        return HS_COUNTERS_SIZE;
    case HS_ADD_BOTH:
        return HS_ADD_BOTH_SIZE;
    case HS_ADD6:
        return HS_ADD6_SIZE;
    default:
        return 0;
    }
}

static void pack_head(uint8_t *out, uint8_t kind, uint32_t handle, uint16_t version)
{
    memset(out, 0, HS_RECORD_SHORT_MAX);
    out[0] = kind;
    put32(out + 4, handle);
    put16(out + 8, version);
}

static uint16_t remaining_s(const struct hs_flow *flow, uint64_t now_ms)
{
    uint64_t left_ms = flow->expires_ms > now_ms ? flow->expires_ms - now_ms : 0;
    uint64_t left_s = (left_ms + 999) / 1000;

    return left_s > UINT16_MAX ? UINT16_MAX : (uint16_t)left_s;
}

/* Tuples hold network order; memcpy keeps it. */
static void pack_tuple(uint8_t *out, const struct hs_flow *flow)
{
    const struct hs_tuple *original = &flow->tuple[HS_ORIGINAL], *reply = &flow->tuple[HS_REPLY];
    bool icmp = flow->flags & HS_FLOW_ICMP;

    memcpy(out + 12, original, 12); /* addresses and ports, as they lie */
    if (flow->flags & HS_FLOW_DNAT) {
        memcpy(out + 24, &reply->src_addr, 4);
        memcpy(out + 28, &reply->src_port, 2);
    } else {
        memcpy(out + 24, &reply->dst_addr, 4);
        memcpy(out + 28, icmp ? &reply->src_port : &reply->dst_port, 2);
    }
    if (out[0] != HS_ADD_BOTH)
        return;
    if (icmp)
        memset(out + 28, 0, 2); /* an echo has one identifier: the public one */
    memcpy(out + 32, &reply->dst_addr, 4);
    memcpy(out + 36, icmp ? &reply->src_port : &reply->dst_port, 2);
}

/* The reply's source is the backend, or what an untranslated flow was sent to; what comes third on the wire is the end
 * that changed: of an untranslated flow the source, which did not (proto/sync.md §3). */
static void pack_tuple6(uint8_t *out, const struct hs_flow_table *table, const struct hs_flow *flow)
{
    const struct hs_tuple *original = &flow->tuple[HS_ORIGINAL], *reply = &flow->tuple[HS_REPLY];
    struct hs_ends6 there = hs_flow_ends6(table, flow, HS_ORIGINAL);
    struct hs_ends6 back = hs_flow_ends6(table, flow, HS_REPLY);
    bool dnat = flow->flags & HS_FLOW_DNAT;

    memcpy(out + 12, &there, 32);
    memcpy(out + 44, dnat ? &back.src : &there.src, 16);
    memcpy(out + 60, &original->src_port, 2);
    memcpy(out + 62, &original->dst_port, 2);
    memcpy(out + 64, dnat ? &reply->src_port : &original->src_port, 2);
    memset(out + 66, 0, 2);
}

uint32_t hs_record_pack_flow(uint8_t out[HS_RECORD_MAX], enum hs_record_kind kind,
                             const struct hs_flow_table *table, const struct hs_flow *flow,
                             uint64_t now_ms)
{
    pack_head(out, (uint8_t)kind, hs_flow_slot(table, flow), flow->version);
    if (kind == HS_COUNTERS) {
        for (int direction = 0; direction < 2; direction++) {
            put32(out + 12 + 12 * direction, flow->packets[direction]);
            put64(out + 16 + 12 * direction, flow->bytes[direction]);
        }
        return HS_COUNTERS_SIZE;
    }
    out[1] = flow->state;
    out[2] = flow->flags & HS_FLOW_ON_WIRE;
    put16(out + 10, remaining_s(flow, now_ms));
    if (kind != HS_ADD)
        return HS_SHORT_SIZE;
    if (flow->tuple[HS_ORIGINAL].family == HS_IPV6) {
        out[0] = HS_ADD6;
        pack_tuple6(out, table, flow);
        return HS_ADD6_SIZE;
    }
    if (hs_flow_is_hairpin(flow))
        out[0] = HS_ADD_BOTH;
    pack_tuple(out, flow);
    return hs_record_size(out[0]);
}

uint32_t hs_record_pack_del(uint8_t out[HS_RECORD_MAX], const struct hs_flow_table *table,
                            const struct hs_flow *flow, enum hs_del_reason reason)
{
    pack_head(out, HS_DEL, hs_flow_slot(table, flow), flow->version);
    out[1] = (uint8_t)reason;
    return HS_SHORT_SIZE;
}

static bool state_is_valid(uint8_t state, uint8_t flags)
{
    if (flags & (HS_FLOW_UDP | HS_FLOW_ICMP))
        return state == HS_UNREPLIED || state == HS_REPLIED;
    return state > HS_TCP_NONE && state < HS_TCP_STATES;
}

static enum hs_rejection unpack_tuples(struct hs_record *r, const uint8_t *bytes)
{
    struct hs_tuple *original = &r->tuple[HS_ORIGINAL], *reply = &r->tuple[HS_REPLY];
    bool icmp = r->flags & HS_FLOW_ICMP;

    bool both = bytes[0] == HS_ADD_BOTH;

    if (get16(bytes + 30) || (icmp && get16(bytes + 22)) || (both && get16(bytes + 38)) ||
        (both && icmp && get16(bytes + 28)))
        return HS_NONZERO_PADDING;
    if (both && !(r->flags & HS_FLOW_DNAT))
        return HS_BAD_STATE;
    memset(r->tuple, 0, sizeof r->tuple);
    memcpy(original, bytes + 12, 12);
    original->proto = r->flags & HS_FLOW_UDP ? HS_UDP : icmp ? HS_ICMP : HS_TCP;
    *reply = hs_tuple_invert(original);
    if (r->flags & HS_FLOW_DNAT) {
        memcpy(&reply->src_addr, bytes + 24, 4);
        memcpy(&reply->src_port, bytes + 28, 2);
    } else {
        memcpy(&reply->dst_addr, bytes + 24, 4);
        memcpy(icmp ? &reply->src_port : &reply->dst_port, bytes + 28, 2);
    }
    if (both) {
        memcpy(&reply->dst_addr, bytes + 32, 4);
        memcpy(icmp ? &reply->src_port : &reply->dst_port, bytes + 36, 2);
        /* Else it is no hairpin, and could not be told on. */
        if (reply->src_addr == original->dst_addr || reply->dst_addr == original->src_addr)
            return HS_BAD_STATE;
    }
    return HS_ACCEPTED;
}

static enum hs_rejection unpack_tuples6(struct hs_record *r, const uint8_t *bytes)
{
    struct hs_tuple *original = &r->tuple[HS_ORIGINAL], *reply = &r->tuple[HS_REPLY];
    bool icmp = r->flags & HS_FLOW_ICMP, dnat = r->flags & HS_FLOW_DNAT;
    struct hs_address6 nat;

    if (get16(bytes + 66) || (icmp && get16(bytes + 62)))
        return HS_NONZERO_PADDING;
    memcpy(&r->ends6, bytes + 12, 32);
    memcpy(&nat, bytes + 44, 16);
    if (!hs_address6_is_forwardable(&r->ends6.src) || !hs_address6_is_forwardable(&r->ends6.dst) ||
        !hs_address6_is_forwardable(&nat))
        return HS_BAD_ADDRESS;
    if (!dnat && (!hs_address6_equal(&nat, &r->ends6.src) || memcmp(bytes + 64, bytes + 60, 2) != 0))
        return HS_BAD_ADDRESS; /* there is no NAT66 */
    memset(r->tuple, 0, sizeof r->tuple);
    memcpy(&original->src_port, bytes + 60, 2);
    memcpy(&original->dst_port, bytes + 62, 2);
    original->proto = r->flags & HS_FLOW_UDP ? HS_UDP : icmp ? HS_ICMP : HS_TCP;
    original->family = HS_IPV6;
    *reply = hs_tuple_invert(original);
    if (dnat)
        memcpy(&reply->src_port, bytes + 64, 2);
    r->reply_src6 = dnat ? nat : r->ends6.dst;
    return HS_ACCEPTED;
}

static enum hs_rejection check_head(const struct hs_record *r, const uint8_t *bytes)
{
    bool has_state = r->kind == HS_ADD || r->kind == HS_UPDATE;

    if (bytes[3] || (!has_state && (r->flags || r->timeout_s)) ||
        (r->kind == HS_COUNTERS && r->state))
        return HS_NONZERO_PADDING;
    if (r->flags & ~HS_FLOW_ON_WIRE ||
        (r->flags & (HS_FLOW_UDP | HS_FLOW_ICMP)) == (HS_FLOW_UDP | HS_FLOW_ICMP))
        return HS_BAD_STATE;
    if (has_state && !state_is_valid(r->state, r->flags))
        return HS_BAD_STATE;
    if (r->kind == HS_DEL && r->state > HS_DEL_OPERATOR)
        return HS_BAD_STATE;
    return HS_ACCEPTED;
}

enum hs_rejection hs_record_unpack(struct hs_record *r, const uint8_t *bytes, uint32_t length,
                                   uint32_t *size)
{
    enum hs_rejection rejection;

    *size = length ? hs_record_size(bytes[0]) : 0;
    if (!*size)
        return length ? HS_UNKNOWN_KIND : HS_RECORD_TRUNCATED;
    if (length < *size)
        return HS_RECORD_TRUNCATED;
    *r = (struct hs_record){
        .kind = bytes[0] == HS_ADD_BOTH || bytes[0] == HS_ADD6 ? HS_ADD : (enum hs_record_kind)bytes[0],
        .state = bytes[1],
        .flags = bytes[2],
        .handle = get32(bytes + 4),
        .version = get16(bytes + 8),
        .timeout_s = get16(bytes + 10),
    };
    rejection = check_head(r, bytes);
    if (rejection)
        return rejection;
    if (r->kind == HS_ADD)
        return bytes[0] == HS_ADD6 ? unpack_tuples6(r, bytes) : unpack_tuples(r, bytes);
    for (int direction = 0; r->kind == HS_COUNTERS && direction < 2; direction++) {
        r->packets[direction] = get32(bytes + 12 + 12 * direction);
        r->bytes[direction] = get64(bytes + 16 + 12 * direction);
    }
    return HS_ACCEPTED;
}

void hs_record_tuples6(const struct hs_record *r, struct hs_seed seed, struct hs_tuple tuple[2])
{
    struct hs_ends6 reply = {r->reply_src6, r->ends6.src};

    tuple[0] = hs_tuple6(seed, &r->ends6, r->tuple[0].src_port, r->tuple[0].dst_port, r->tuple[0].proto);
    tuple[1] = hs_tuple6(seed, &reply, r->tuple[1].src_port, r->tuple[1].dst_port, r->tuple[1].proto);
}

bool hs_record_describes(const struct hs_record *r, const struct hs_flow_table *table, const struct hs_flow *flow)
{
    struct hs_tuple tuple[2] = {r->tuple[0], r->tuple[1]};

    if (flow->version != r->version || flow->state != r->state || (flow->flags & HS_FLOW_ON_WIRE) != r->flags ||
        hs_flow_slot(table, flow) != r->handle)
        return false;
    if (r->tuple[HS_ORIGINAL].family == HS_IPV6) {
        struct hs_ends6 there = hs_flow_ends6(table, flow, HS_ORIGINAL), back = hs_flow_ends6(table, flow, HS_REPLY);

        if (memcmp(&there, &r->ends6, sizeof there) != 0 || memcmp(&back.src, &r->reply_src6, sizeof back.src) != 0)
            return false;
        hs_record_tuples6(r, table->seed, tuple);
    }
    return memcmp(tuple, flow->tuple, sizeof tuple) == 0;
}

bool hs_record_can_describe(const struct hs_flow_table *table, const struct hs_flow *flow)
{
    uint8_t bytes[HS_RECORD_MAX];
    uint32_t size = hs_record_pack_flow(bytes, HS_ADD, table, flow, 0);
    struct hs_record record;

    return hs_record_unpack(&record, bytes, size, &size) == HS_ACCEPTED &&
           hs_record_describes(&record, table, flow);
}
