#include "core/fragments.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "core/gateway.h"

enum { DONE_WITH = 0 }; /* no key is 0 */

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

uint64_t hs_fragments_key(struct hs_seed seed, int side, const struct hs_packet *p)
{
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

/* A later fragment goes where its first went. False: its flow has ended meanwhile. */
static bool forward_later(struct hs_gateway *g, int side, struct hs_packet *p,
                          const struct hs_fragmented *entry, uint64_t now_ns)
{
    struct hs_flow *flow = &g->table->flows[entry->slot];
    struct hs_tuple to;

    if (!flow->state || flow->version != entry->version)
        return false;
    to = hs_tuple_invert(&flow->tuple[!entry->direction]);
    hs_packet_rewrite_addresses(p, to.src_addr, to.dst_addr);
    p->hairpin = hs_flow_is_hairpin(flow);
    flow->packets[entry->direction]++;
    flow->bytes[entry->direction] += ntohs(p->ip->total_length);
    g->counters.fragments_forwarded++;
    hs_gateway_forward(g, side, p, flow, now_ns);
    return true;
}

/* Those that came before their first fragment follow it now. They stay in the queue, done with, so that nothing
 * moves while the frames just sent lie there. */
static void release_waiting(struct hs_gateway *g, const struct hs_fragmented *entry, uint64_t now_ns)
{
    struct hs_packet_queue *waiting = &g->fragments.waiting;

    for (uint32_t i = 0; i < waiting->count; i++) {
        struct hs_queued *queued = &waiting->entries[(waiting->first + i) % waiting->capacity];
        struct hs_packet p;

        if (queued->sequence != entry->key)
            continue;
        queued->sequence = DONE_WITH;
        hs_packet_parse(&p, &queued->vnet, queued->frame, queued->length);
        if (!forward_later(g, queued->side, &p, entry, now_ns))
            g->counters.drop_fragment++;
    }
}

static void receive_first(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    uint64_t key = hs_fragments_key(g->table->seed, side, p);
    struct hs_fragmented *entry;
    struct hs_found found;
    struct hs_tuple back;

    if (!hs_packet_parse_first_fragment(p)) {
        g->counters.drop_fragment++;
        return;
    }
    hs_gateway_receive_flow(g, side, p, hs_flow_table_hash(g->table, &p->tuple), now_ns);
    back = hs_tuple_invert(&p->tuple); /* of what has left, if anything has */
    found = hs_flow_table_find(g->table, &back);
    if (!found.flow)
        return;
    entry = hs_fragments_put(&g->fragments, key, now_ns / 1000000);
    entry->slot = hs_flow_slot(g->table, found.flow);
    entry->version = found.flow->version;
    entry->direction = !found.direction;
    g->counters.fragments_forwarded++;
    release_waiting(g, entry, now_ns);
}

void hs_gateway_receive_fragment(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    uint32_t offset = (ntohs(p->ip->fragment) & 0x1fffu) * 8;
    uint64_t key = hs_fragments_key(g->table->seed, side, p);
    const struct hs_fragmented *entry;
    struct hs_queued queued;

    if (!offset) {
        receive_first(g, side, p, now_ns);
        return;
    }
    /* RFC 3128: what overlaps the header that the first fragment showed us would change it unseen. */
    if ((p->ip->proto == HS_TCP && offset < 20) || p->ip->ttl <= 1) {
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
           (queued->sequence == DONE_WITH || queued->deadline_ns <= now_ns)) {
        g->counters.drop_fragment += queued->sequence != DONE_WITH;
        hs_packet_queue_pop(&g->fragments.waiting);
    }
}
