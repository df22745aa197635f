/* When the first packets of a flow may leave (proto/sync.md §6).
 *
 * A flow has the mode of its rule, or the pair's. Each mode has a queue of its own, so that what waits for write(2) never
 * waits for an ACK; together they have one bound. A mode is *suspended* while the peer does not keep up: its new flows
 * leave at once and are counted.
 */
#include "core/backend_flows.h"

static struct hs_packet_queue *queue_of(struct hs_gateway *g, enum hs_commit mode)
{
    return &g->held[mode - 1];
}

static enum hs_commit mode_of(const struct hs_flow *flow)
{
    return flow->local & HS_LOCAL_EMIT ? HS_COMMIT_EMIT : HS_COMMIT_ACK;
}

/* What the mode asks for has happened to every delta up to this sequence. */
static uint64_t confirmed(const struct hs_gateway *g, enum hs_commit mode)
{
    return mode == HS_COMMIT_ACK ? g->log.acknowledged : g->emitted;
}

/* Packets wait for no delta up to this sequence. */
static uint64_t committed(const struct hs_gateway *g, enum hs_commit mode)
{
    uint64_t sequence = confirmed(g, mode), released = g->failed_open[mode - 1];

    return sequence > released ? sequence : released;
}

/* The ADD that a flow's packets wait for; later records of the flow hold nothing back. */
static uint64_t add_sequence(const struct hs_gateway *g, const struct hs_flow *flow)
{
    return g->log.next - ((uint32_t)g->log.next - flow->add_sequence);
}

void hs_gateway_begin_commit(struct hs_gateway *g, struct hs_flow *flow, enum hs_commit chosen)
{
    enum hs_commit mode = chosen ? chosen : g->commit;

    if (g->commit == HS_COMMIT_NONE)
        return;
    if (mode == HS_COMMIT_EMIT)
        flow->local |= HS_LOCAL_EMIT;
    if (g->suspended[mode - 1])
        g->counters.fail_open_released++;
    else
        flow->flags |= HS_FLOW_UNCOMMITTED;
}

bool hs_gateway_is_uncommitted(const struct hs_gateway *g, const struct hs_flow *flow)
{
    return g->commit != HS_COMMIT_NONE && flow->flags & HS_FLOW_UNCOMMITTED &&
           add_sequence(g, flow) > committed(g, mode_of(flow));
}

/* Both queues share what one may hold. */
static bool has_room(const struct hs_gateway *g, uint32_t length)
{
    const struct hs_packet_queue *a = &g->held[0], *b = &g->held[1];

    return a->count + b->count < a->capacity && a->bytes + b->bytes + length <= a->arena_size;
}

void hs_gateway_hold(struct hs_gateway *g, const struct hs_flow *flow, struct hs_queued *packet, uint64_t now_ns)
{
    packet->sequence = add_sequence(g, flow);
    packet->deadline_ns = now_ns + g->commit_timeout_ns;
    if (has_room(g, packet->length) && hs_packet_queue_push(queue_of(g, mode_of(flow)), packet)) {
        g->counters.held_packets++;
        return;
    }
    if (!g->fail_open) {
        g->counters.fail_closed_dropped++;
        return;
    }
    g->counters.fail_open_released++;
    hs_gateway_send_or_wait(g, packet, now_ns);
}

/* Whether what the peer has not confirmed is young: half of what a packet would wait. */
static bool keeps_up(const struct hs_gateway *g, enum hs_commit mode, uint64_t now_ns)
{
    uint64_t next = confirmed(g, mode) + 1;

    if (next >= g->log.next)
        return true;
    return next >= hs_delta_log_oldest(&g->log) &&
           now_ns <= hs_delta_log_entry(&g->log, next)->at_ns + g->commit_timeout_ns / 2;
}

static uint32_t release(struct hs_gateway *g, enum hs_commit mode, uint64_t now_ns)
{
    struct hs_packet_queue *queue = queue_of(g, mode);
    struct hs_queued *packet;
    uint32_t released = 0;

    while ((packet = hs_packet_queue_front(queue)) &&
           (g->commit == HS_COMMIT_NONE || packet->sequence <= committed(g, mode))) {
        if (!hs_gateway_waited_in_vain(g, packet))
            hs_gateway_send_or_wait(g, packet, now_ns);
        hs_packet_queue_pop(queue);
        released++;
    }
    if (g->suspended[mode - 1] && keeps_up(g, mode, now_ns))
        g->suspended[mode - 1] = false;
    return released;
}

uint32_t hs_gateway_release(struct hs_gateway *g, uint64_t now_ns)
{
    if (!hs_gateway_armed(g, now_ns))
        return 0;
    return release(g, HS_COMMIT_EMIT, now_ns) + release(g, HS_COMMIT_ACK, now_ns);
}

/* The first of a queue has waited in vain. */
static void expire(struct hs_gateway *g, enum hs_commit mode, const struct hs_queued *packet, uint64_t now_ns)
{
    if (!hs_gateway_armed(g, now_ns)) {
        g->counters.drop_no_lease++;
        return;
    }
    if (!g->fail_open) {
        g->counters.fail_closed_dropped++;
        return;
    }
    if (hs_gateway_waited_in_vain(g, packet))
        return;
    g->counters.fail_open_released++;
    if (packet->sequence > g->failed_open[mode - 1])
        g->failed_open[mode - 1] = packet->sequence;
    g->counters.commit_suspensions += !g->suspended[mode - 1];
    g->suspended[mode - 1] = true;
    hs_gateway_send_or_wait(g, packet, now_ns);
}

void hs_gateway_expire_held(struct hs_gateway *g, uint64_t now_ns)
{
    for (int mode = HS_COMMIT_EMIT; mode <= HS_COMMIT_ACK; mode++) {
        struct hs_packet_queue *queue = queue_of(g, (enum hs_commit)mode);
        struct hs_queued *packet;

        while ((packet = hs_packet_queue_front(queue)) && packet->deadline_ns <= now_ns) {
            expire(g, (enum hs_commit)mode, packet, now_ns);
            hs_packet_queue_pop(queue);
        }
    }
    hs_gateway_release(g, now_ns); /* later packets of what was let go */
}

uint32_t hs_gateway_drop_held(struct hs_gateway *g)
{
    uint32_t dropped = g->held[0].count + g->held[1].count;

    hs_packet_queue_clear(&g->held[0]);
    hs_packet_queue_clear(&g->held[1]);
    return dropped;
}

void hs_gateway_set_commit(struct hs_gateway *g, enum hs_commit commit, uint64_t timeout_ns, bool fail_open,
                           uint64_t now_ns)
{
    uint32_t released;

    g->commit = commit;
    g->log.head->commit = commit;
    g->commit_timeout_ns = timeout_ns;
    g->fail_open = fail_open;
    if (commit == HS_COMMIT_NONE || !fail_open)
        g->suspended[0] = g->suspended[1] = false;
    released = hs_gateway_release(g, now_ns);
    /* What still waits when holding ends was not confirmed by anybody. */
    if (commit == HS_COMMIT_NONE)
        g->counters.fail_open_released += released;
}
