#include "core/fragments.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "core/backend_flows.h"

bool hs_fragments_init(struct hs_fragments *fragments)
{
    fragments->sets = calloc(HS_FRAGMENT_SETS, sizeof *fragments->sets);
    return fragments->sets &&
           hs_packet_queue_init(&fragments->waiting, HS_FRAGMENTS_WAITING, HS_FRAGMENT_BYTES);
}

void hs_fragments_free(struct hs_fragments *fragments)
{
    free(fragments->sets);
    hs_packet_queue_free(&fragments->waiting);
}

void hs_fragments_clear(struct hs_fragments *fragments)
{
    memset(fragments->sets, 0, HS_FRAGMENT_SETS * sizeof *fragments->sets);
    hs_packet_queue_clear(&fragments->waiting);
}

static uint64_t key6(struct hs_seed seed, int side, const struct hs_packet *p)
{
    struct {
        struct hs_ends6 ends;
        uint32_t id, side;
    } named = {p->ip6->ends, hs_packet6_fragment_id(p), (uint32_t)side};
    uint64_t key = hs_siphash(seed, &named, sizeof named);

    return key ? key : 1;
}

uint64_t hs_fragments_key(struct hs_seed seed, int side, const struct hs_packet *p)
{
    if (p->ip6)
        return key6(seed, side, p);

    struct hs_tuple named = {.src_addr = p->ip->src_addr,
                             .dst_addr = p->ip->dst_addr,
                             .src_port = p->ip->id,
                             .dst_port = (uint16_t)side,
                             .proto = p->ip->proto};
    uint64_t key = hs_siphash(seed, &named, sizeof named);

    return key ? key : 1;
}

struct hs_fragmented *hs_fragments_find(const struct hs_fragments *fragments, uint64_t key, uint64_t now_ms)
{
    struct hs_fragmented *set = fragments->sets[key % HS_FRAGMENT_SETS];

    for (int way = 0; way < HS_FRAGMENT_WAYS; way++)
        if (set[way].key == key && now_ms < set[way].until_ms)
            return &set[way];
    return NULL;
}

struct hs_fragmented *hs_fragments_put(struct hs_fragments *fragments, uint64_t key, uint64_t now_ms)
{
    struct hs_fragmented *set = fragments->sets[key % HS_FRAGMENT_SETS], *chosen = set;

    for (int way = 0; way < HS_FRAGMENT_WAYS; way++) {
        if (set[way].key == key) {
            chosen = &set[way];
            break;
        }
        if (set[way].until_ms < chosen->until_ms)
            chosen = &set[way];
    }
    *chosen = (struct hs_fragmented){.key = key, .until_ms = now_ms + HS_FRAGMENT_S * 1000};
    return chosen;
}

/* --- the gateway's part -------------------------------------------------------------------- */

uint32_t hs_gateway_fragment_offset(const struct hs_packet *p)
{
    return p->ip ? (ntohs(p->ip->fragment) & 0x1fffu) * 8 : hs_packet6_fragment_offset(p);
}

/* What no sender makes: a piece that others cannot follow, or that ends behind the longest packet (RFC 8200 §4.5). */
static bool is_impossible(const struct hs_packet *p)
{
    uint32_t before = p->ip6 ? (uint32_t)(p->l4 - (const uint8_t *)(p->ip6 + 1)) - 8 : 0;

    return p->ip6 && ((hs_packet6_has_more_fragments(p) && p->l4_length % 8) || !p->l4_length ||
                      before + hs_packet6_fragment_offset(p) + p->l4_length > 65535);
}

bool hs_gateway_parse_first_fragment(const struct hs_gateway *g, struct hs_packet *p)
{
    return p->ip ? hs_packet_parse_first_fragment(p) : hs_packet6_parse_first_fragment(p, g->table->seed);
}

static void rewrite_later(struct hs_gateway *g, struct hs_packet *p, const struct hs_flow *flow,
                          enum hs_direction direction)
{
    struct hs_tuple to = hs_tuple_invert(&flow->tuple[!direction]);
    struct hs_ends6 ends;

    if (p->ip) {
        hs_packet_rewrite_addresses(p, to.src_addr, to.dst_addr);
        return;
    }
    ends = hs_flow_ends6(g->table, flow, !direction);
    p->ip6->ends = hs_ends6_invert(&ends);
}

/* A later fragment goes where its first went. False: its flow has ended meanwhile, or it overlaps the first. */
static bool forward_later(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_fragmented *entry,
                          uint64_t now_ns)
{
    struct hs_flow *flow = &g->table->flows[entry->slot];

    entry->overlapped |= hs_gateway_fragment_offset(p) < entry->first_bytes;
    if (!hs_flow_table_holds(g->table, entry->slot) || flow->version != entry->version || entry->overlapped ||
        hs_gateway_backend_is_removed(g, flow))
        return false;
    rewrite_later(g, p, flow, entry->direction);
    p->hairpin = hs_flow_is_hairpin(flow);
    p->direction = entry->direction;
    flow->packets[entry->direction]++;
    flow->bytes[entry->direction] += hs_packet_ip_length(p);
    g->counters.fragments_forwarded++;
    hs_gateway_forward(g, side, p, flow, now_ns);
    return true;
}

/* Those that came before their first fragment follow it now. They stay in the queue, done with, so that nothing
 * moves while the frames just sent lie there. */
static void release_waiting(struct hs_gateway *g, struct hs_fragmented *entry, uint64_t now_ns)
{
    struct hs_packet_queue *waiting = &g->fragments.waiting;

    for (uint32_t i = 0; i < waiting->count; i++) {
        struct hs_queued *queued = &waiting->entries[(waiting->first + i) % waiting->capacity];
        struct hs_packet p;

        if (queued->sequence != entry->key)
            continue;
        queued->sequence = HS_FRAGMENT_DONE_WITH;
        hs_gateway_parse(g, &p, &queued->vnet, queued->frame, queued->length);
        if (!forward_later(g, queued->side, &p, entry, now_ns))
            g->counters.drop_fragment++;
    }
}

/* The flow of a packet that has left. */
static struct hs_found find_back(const struct hs_gateway *g, const struct hs_packet *p)
{
    struct hs_tuple back = hs_tuple_invert(&p->tuple);
    struct hs_ends6 ends;

    if (p->ip)
        return hs_flow_table_find(g->table, &back);
    ends = hs_ends6_invert(&p->ip6->ends);
    return hs_flow_table_find6(g->table, &back, &ends);
}

/* Another first fragment that is longer or shorter overlaps the one before. */
static bool contradicts(struct hs_fragmented *before, uint32_t bytes)
{
    if (before)
        before->overlapped |= before->first_bytes != bytes;
    return before && before->overlapped;
}

static void receive_first(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    uint64_t key = hs_fragments_key(g->table->seed, side, p);
    uint16_t bytes = (uint16_t)p->l4_length;
    struct hs_fragmented *entry;
    struct hs_found found;

    if ((p->ip6 && contradicts(hs_fragments_find(&g->fragments, key, now_ns / 1000000), bytes)) ||
        !hs_gateway_parse_first_fragment(g, p)) {
        g->counters.drop_fragment++;
        return;
    }
    hs_gateway_receive_flow(g, side, p, hs_flow_table_hash(g->table, &p->tuple), now_ns);
    found = find_back(g, p);
    if (!found.flow)
        return;
    entry = hs_fragments_put(&g->fragments, key, now_ns / 1000000);
    entry->first_bytes = p->ip6 ? bytes : 0;
    entry->slot = hs_flow_slot(g->table, found.flow);
    entry->version = found.flow->version;
    entry->direction = !found.direction;
    g->counters.fragments_forwarded++;
    release_waiting(g, entry, now_ns);
}

void hs_gateway_receive_fragment(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    uint32_t offset = hs_gateway_fragment_offset(p);
    uint64_t key = hs_fragments_key(g->table->seed, side, p);
    struct hs_fragmented *entry;
    struct hs_queued queued;

    if (is_impossible(p)) {
        g->counters.drop_fragment++;
        return;
    }
    if (!offset) {
        receive_first(g, side, p, now_ns);
        return;
    }
    /* RFC 3128: what overlaps the header that the first fragment showed us would change it unseen. */
    if (p->ip ? (p->ip->proto == HS_TCP && offset < 20) || p->ip->ttl <= 1 : p->ip6->hop_limit <= 1) {
        g->counters.drop_fragment++;
        return;
    }
    entry = hs_fragments_find(&g->fragments, key, now_ns / 1000000);
    if (entry) {
        if (!forward_later(g, side, p, entry, now_ns))
            g->counters.drop_fragment++;
        return;
    }
    queued = (struct hs_queued){
        .frame = p->frame,
        .length = hs_packet_frame_length(p),
        .side = (uint8_t)side,
        .sequence = key,
        .deadline_ns = now_ns + HS_FRAGMENT_WAIT_S * 1000000000ull,
    };
    if (p->vnet)
        queued.vnet = *p->vnet;
    if (hs_packet_queue_push(&g->fragments.waiting, &queued))
        g->counters.fragments_held++;
    else
        g->counters.drop_fragment++;
}

void hs_gateway_expire_fragments(struct hs_gateway *g, uint64_t now_ns)
{
    struct hs_queued *queued;

    while ((queued = hs_packet_queue_front(&g->fragments.waiting)) &&
           (queued->sequence == HS_FRAGMENT_DONE_WITH || queued->deadline_ns <= now_ns)) {
        g->counters.drop_fragment += queued->sequence != HS_FRAGMENT_DONE_WITH;
        hs_packet_queue_pop(&g->fragments.waiting);
    }
}
