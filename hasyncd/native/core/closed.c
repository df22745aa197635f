#include "core/gateway.h"
#include "core/merge.h"
#include "core/reset.h"

static struct hs_closed *set_of(struct hs_gateway *g, const struct hs_tuple *tuple)
{
    uint64_t hash = hs_siphash(g->table->seed, tuple, sizeof *tuple);

    return &g->closed[(hash & (HS_CLOSED_SETS - 1)) * HS_CLOSED_WAYS];
}

/* Where there is no room, the one that would end first is forgotten: its ends find out by their own timeouts. */
void hs_gateway_close_end(struct hs_gateway *g, const struct hs_tuple *tuple, uint64_t until_s)
{
    struct hs_closed *set = set_of(g, tuple), *place = set;

    for (int way = 0; way < HS_CLOSED_WAYS; way++) {
        if (set[way].until_s && hs_tuple_equal(&set[way].tuple, tuple)) {
            place = &set[way];
            break;
        }
        if (set[way].until_s < place->until_s)
            place = &set[way];
    }
    *place = (struct hs_closed){*tuple, until_s};
    if (until_s > g->closed_until_s)
        g->closed_until_s = until_s;
}

static bool is_closed(struct hs_gateway *g, const struct hs_tuple *tuple, uint64_t now_s)
{
    const struct hs_closed *set = set_of(g, tuple);

    for (int way = 0; way < HS_CLOSED_WAYS; way++)
        if (set[way].until_s > now_s && hs_tuple_equal(&set[way].tuple, tuple))
            return true;
    return false;
}

bool hs_gateway_reset_closed(struct hs_gateway *g, int side, struct hs_packet *p, uint64_t now_ns)
{
    uint64_t now_s = now_ns / 1000000000;

    if (now_s >= g->closed_until_s || p->tuple.proto != HS_TCP || p->tcp_flags & HS_RST || hs_packet_is_first(p) ||
        !is_closed(g, &p->tuple, now_s))
        return false;
    hs_reset_return(g, side, p);
    g->counters.closed_resets_sent++;
    return true;
}
