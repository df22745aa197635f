#include "core/offload.h"

#include <stdlib.h>

#include "core/gateway.h"

_Static_assert(sizeof(struct hs_cache_key) == sizeof(struct hs_tuple), "an IPv4 key is a tuple");
_Static_assert((int)HS_CACHE_SIDES == (int)HS_SIDES, "sides");
_Static_assert((int)HS_CACHE_GATES == HS_SERVICES_MAX * HS_BACKENDS_MAX, "a gate a backend");

bool hs_offload_start(struct hs_gateway *g, struct hs_cache_use *uses, struct hs_cache_control *control,
                      const uint32_t ifindex[HS_CACHE_SIDES])
{
    struct hs_offload *o = &g->offload;

    hs_offload_stop(g);
    o->capacity = g->table->capacity;
    o->uses = uses;
    o->control = control;
    o->queued = calloc((o->capacity + 63) / 64, sizeof *o->queued);
    o->queue = calloc(o->capacity, sizeof *o->queue);
    o->gone = calloc(o->capacity, sizeof *o->gone);
    o->on = o->queued && o->queue && o->gone;
    if (!o->on) {
        hs_offload_stop(g);
        return false;
    }
    memcpy(o->ifindex, ifindex, sizeof o->ifindex);
    memcpy(control->ifindex, ifindex, sizeof control->ifindex);
    hs_offload_reroute(g);
    hs_offload_judge_backends(g);
    hs_offload_publish(g);
    return true;
}

void hs_offload_stop(struct hs_gateway *g)
{
    struct hs_offload *o = &g->offload;

    if (o->control)
        __atomic_store_n(&o->control->lease_until_ns, 0, __ATOMIC_RELEASE);
    free(o->queued);
    free(o->queue);
    free(o->gone);
    for (uint32_t slot = 0; o->on && slot < o->capacity; slot++)
        g->table->flows[slot].local &= (uint8_t)~(HS_LOCAL_OFFLOADED | HS_LOCAL_ONE_WAY);
    *o = (struct hs_offload){0};
}

void hs_offload_forget_all(struct hs_gateway *g)
{
    struct hs_offload *o = &g->offload;

    if (!o->on)
        return;
    memset(o->queued, 0, (o->capacity + 63) / 64 * sizeof *o->queued);
    o->queue_count = o->gone_count = o->cached = 0;
    o->control->epoch++;
    o->purge = true;
}

/* What the entries take from elsewhere than from their flow. */
static uint64_t fold_routes(const struct hs_gateway *g)
{
    uint64_t sum = 14695981039346656037u; /* FNV-1a */
    const struct {
        const void *at;
        size_t bytes;
    } parts[] = {
        {g->hops.routes, g->hops.route_count * sizeof *g->hops.routes},
        {g->hops6.routes, g->hops6.route_count * sizeof *g->hops6.routes},
        {&g->ports[0].mtu, sizeof g->ports[0].mtu},
        {&g->ports[1].mtu, sizeof g->ports[1].mtu},
    };

    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)
        for (size_t i = 0; i < parts[part].bytes; i++)
            sum = (sum ^ ((const uint8_t *)parts[part].at)[i]) * 1099511628211u;
    return sum;
}

void hs_offload_reroute(struct hs_gateway *g)
{
    struct hs_offload *o = &g->offload;
    uint64_t routes = o->on ? fold_routes(g) : 0;

    if (!o->on || routes == o->routes)
        return;
    o->routes = routes;
    o->control->epoch++;
    o->hurry = true;
    o->cursor = 0;
}

/* Whether what comes for it must be seen by the engine. Flows of one that is draining go on as they are: nothing but a SYN
 * asks for a decision, and SYNs go up in any case. */
static bool is_closed(const struct hs_backend *backend)
{
    return backend->state == HS_BACKEND_REMOVED || (backend->state == HS_BACKEND_DOWN && !backend->in_table);
}

void hs_offload_judge_backends(struct hs_gateway *g)
{
    struct hs_offload *o = &g->offload;

    for (uint32_t i = 0; o->on && i < g->rules.service_count; i++) {
        const struct hs_service *service = &g->rules.services[i];
        uint64_t *closed = &o->control->closed[i * (HS_BACKENDS_MAX / 64)], word = 0;

        for (uint32_t place = 0; place < service->backend_count; place++) {
            word |= (uint64_t)is_closed(&service->backends[place]) << place % 64;
            if (place % 64 < 63 && place + 1 < service->backend_count)
                continue;
            __atomic_store_n(&closed[place / 64], word, __ATOMIC_RELEASE);
            word = 0;
        }
    }
}

void hs_offload_publish(struct hs_gateway *g)
{
    struct hs_offload *o = &g->offload;

    if (!o->on)
        return;
    if (o->control->lease_until_ns != g->lease_until_ns)
        __atomic_store_n(&o->control->lease_until_ns, g->lease_until_ns, __ATOMIC_RELEASE);
    for (int side = 0; side < HS_SIDES; side++)
        for (int family = 0; family < 2; family++)
            if (g->seen_ns[side][family] < o->control->seen_ns[side][family])
                g->seen_ns[side][family] = o->control->seen_ns[side][family];
}

/* How many of its directions need no decision: nothing that a datagram, or a segment with ACK and without FIN, SYN or RST,
 * brings can change the flow. The first answer to a datagram does (act_ct has it so, too). */
static uint32_t settled_directions(const struct hs_gateway *g, const struct hs_flow *flow)
{
    const struct hs_backend *backend = hs_gateway_backend_of(g, flow);

    if (flow->flags & HS_FLOW_ICMP || (backend && is_closed(backend)))
        return 0;
    if (flow->flags & HS_FLOW_UDP && flow->state == HS_UNREPLIED)
        return flow->packets[HS_ORIGINAL] >= HS_OFFLOAD_PACKETS;
    if (!(flow->flags & HS_FLOW_BOTH_SEEN))
        return 0;
    return flow->state == (flow->flags & HS_FLOW_UDP ? (int)HS_REPLIED : (int)HS_TCP_ESTABLISHED) ? 2 : 0;
}

static uint32_t cached_directions(const struct hs_flow *flow)
{
    if (!(flow->local & HS_LOCAL_OFFLOADED))
        return 0;
    return flow->local & HS_LOCAL_ONE_WAY ? 1 : 2;
}

static void queue(struct hs_offload *o, uint32_t slot)
{
    uint64_t bit = 1ull << slot % 64;

    if (o->queued[slot / 64] & bit)
        return;
    o->queued[slot / 64] |= bit;
    o->queue[(o->queue_first + o->queue_count++) % o->capacity] = slot;
}

void hs_offload_consider(struct hs_gateway *g, const struct hs_flow *flow)
{
    uint32_t cached;

    if (!g->offload.on)
        return;
    cached = cached_directions(flow);
    /* What was installed is put at once, so that a backup's cache is warm. */
    if (settled_directions(g, flow) != cached && (cached || !g->active || flow->flags & HS_FLOW_LIBERAL ||
                                                  flow->packets[0] + flow->packets[1] >= HS_OFFLOAD_PACKETS))
        queue(&g->offload, hs_flow_slot(g->table, flow));
}

static bool take_use(struct hs_gateway *g, struct hs_flow *flow, int direction, struct hs_cache_use *use,
                     uint64_t *last_ns)
{
    uint64_t packets = __atomic_exchange_n(&use->packets, 0, __ATOMIC_RELAXED), bytes;
    struct hs_backend *backend;

    if (!packets)
        return false;
    bytes = __atomic_exchange_n(&use->bytes, 0, __ATOMIC_RELAXED);
    flow->packets[direction] += (uint32_t)packets;
    flow->bytes[direction] += bytes;
    backend = hs_gateway_backend_of(g, flow);
    if (backend) {
        backend->counts.packets += packets;
        backend->counts.bytes += bytes;
    }
    flow->flags &= (uint8_t)~(direction == HS_REPLY ? HS_FLOW_LIBERAL_REPLY : HS_FLOW_LIBERAL_ORIGINAL);
    if (use->has_sequence) {
        flow->sequence[direction] = use->sequence;
        flow->local |= direction == HS_REPLY ? HS_LOCAL_SEQUENCE_REPLY : HS_LOCAL_SEQUENCE;
    }
    if (use->last_ns > *last_ns)
        *last_ns = use->last_ns;
    return true;
}

bool hs_offload_refresh(struct hs_gateway *g, struct hs_flow *flow, uint64_t now_ns)
{
    struct hs_offload *o = &g->offload;
    uint64_t last_ns = 0;
    bool used = false;

    if (!o->on || !(flow->local & HS_LOCAL_OFFLOADED)) /* a bit that fell over is no cache */
        return false;
    for (int direction = 0; direction < 2; direction++)
        used |= take_use(g, flow, direction, &o->uses[(size_t)direction * o->capacity + hs_flow_slot(g->table, flow)],
                         &last_ns);
    if (used && g->active && last_ns <= now_ns)
        hs_gateway_refresh(g, flow, false, last_ns, now_ns);
    return used;
}

void hs_offload_gone(struct hs_gateway *g, struct hs_flow *flow)
{
    struct hs_offload *o = &g->offload;
    struct hs_offload_keys *keys;

    if (!o->on || !(flow->local & HS_LOCAL_OFFLOADED))
        return;
    flow->local &= (uint8_t)~(HS_LOCAL_OFFLOADED | HS_LOCAL_ONE_WAY);
    if (o->gone_count == o->capacity) /* never, unless memory lies */
        return;
    o->cached--;
    keys = &o->gone[o->gone_count++];
    keys->is6 = hs_offload_name(g, flow, keys->keys);
}

/* The sequence numbers go along, so that a reset is judged by what the kernel saw. */
static void begin_use(struct hs_gateway *g, struct hs_flow *flow)
{
    struct hs_offload *o = &g->offload;

    for (int direction = 0; direction < 2; direction++)
        o->uses[(size_t)direction * o->capacity + hs_flow_slot(g->table, flow)] = (struct hs_cache_use){
            .sequence = flow->sequence[direction],
            .has_sequence = (flow->local & (direction ? HS_LOCAL_SEQUENCE_REPLY : HS_LOCAL_SEQUENCE)) != 0,
        };
    flow->local |= HS_LOCAL_OFFLOADED;
    o->cached++;
}

static void end_use(struct hs_gateway *g, struct hs_flow *flow)
{
    flow->local &= (uint8_t)~(HS_LOCAL_OFFLOADED | HS_LOCAL_ONE_WAY);
    g->offload.cached--;
}

/* What should be in the cache of this slot's flow; false: it is so already. */
static bool decide(struct hs_gateway *g, uint32_t slot, struct hs_offload_change *change)
{
    struct hs_flow *flow = &g->table->flows[slot];
    uint32_t wanted;
    bool cached;

    if (!hs_flow_table_holds(g->table, slot))
        return false;
    cached = flow->local & HS_LOCAL_OFFLOADED;
    wanted = hs_flow_is_hairpin(flow) || hs_gateway_is_uncommitted(g, flow) ? 0 : settled_directions(g, flow);
    if (!cached && !wanted)
        return false;
    *change = (struct hs_offload_change){.slot = slot, .directions = wanted ? wanted : cached_directions(flow)};
    change->is6 = hs_offload_name(g, flow, change->keys);
    change->put = wanted && hs_offload_describe(g, flow, change);
    if (!change->put && !cached)
        return false;
    if (change->put && !cached)
        begin_use(g, flow);
    else if (!change->put)
        end_use(g, flow);
    if (change->put)
        flow->local = (uint8_t)((flow->local & ~HS_LOCAL_ONE_WAY) | (wanted == 1 ? HS_LOCAL_ONE_WAY : 0));
    return true;
}

bool hs_offload_next(struct hs_gateway *g, struct hs_offload_change *change)
{
    struct hs_offload *o = &g->offload;

    if (o->gone_count) {
        const struct hs_offload_keys *keys = &o->gone[--o->gone_count];

        *change = (struct hs_offload_change){.keys = {keys->keys[0], keys->keys[1]}, .directions = 2, .is6 = keys->is6};
        o->taken++;
        return true;
    }
    while (o->queue_count) {
        uint32_t slot = o->queue[o->queue_first];

        o->queue_first = (o->queue_first + 1) % o->capacity;
        o->queue_count--;
        o->queued[slot / 64] &= ~(1ull << slot % 64);
        if (!decide(g, slot, change))
            continue;
        ++*(change->put ? &o->put : &o->taken);
        return true;
    }
    return false;
}

void hs_offload_refused(struct hs_gateway *g, uint32_t slot)
{
    struct hs_flow *flow = &g->table->flows[slot];

    g->offload.refused++;
    if (hs_flow_table_holds(g->table, slot) && flow->local & HS_LOCAL_OFFLOADED)
        end_use(g, flow);
}

void hs_offload_tick(struct hs_gateway *g, uint64_t now_ns)
{
    struct hs_offload *o = &g->offload;
    uint32_t looks = o->capacity / HS_OFFLOAD_LAP_TICKS + 64, end;

    if (!o->on)
        return;
    looks *= o->hurry ? HS_OFFLOAD_HURRY : 1;
    if (!o->cursor) /* a peer's flow may have brought one back */
        hs_offload_judge_backends(g);
    end = o->capacity - o->cursor > looks ? o->cursor + looks : o->capacity;
    for (uint32_t slot = o->cursor; slot < end; slot++) {
        struct hs_flow *flow = &g->table->flows[slot];

        if (!g->table->used[slot / 64]) {
            slot |= 63; /* nothing more in this word */
            continue;
        }
        if (!hs_flow_table_holds(g->table, slot))
            continue;
        if (o->hurry && flow->local & HS_LOCAL_OFFLOADED)
            queue(o, slot);
        hs_offload_refresh(g, flow, now_ns);
        hs_offload_consider(g, flow);
    }
    o->cursor = end == o->capacity ? 0 : end;
    o->hurry = o->hurry && o->cursor;
}
