#include "core/gateway.h"
#include "core/ipv6.h"

const struct hs_route6 *hs_gateway_route6(struct hs_gateway *g, int side, const struct hs_address6 *destination)
{
    const struct hs_route6 *route = hs_next_hops6_route(&g->hops6, destination);

    return hs_gateway_may_leave(g, side, route ? route->side : HS_NO_SIDE, false) ? route : NULL;
}

bool hs_gateway_direct6(struct hs_gateway *g, int side, struct hs_packet *p, struct hs_queued *packet, uint64_t now_ns)
{
    const struct hs_address6 *destination = &p->ip6->ends.dst;
    const struct hs_route6 *route = hs_gateway_route6(g, side, destination);

    if (!route)
        return false;
    if (!hs_gateway_fits(p, g->ports[route->side].mtu)) { /* no router cuts an IPv6 packet */
        hs_gateway_send_too_big6(g, side, p, g->ports[route->side].mtu, now_ns);
        g->counters.drop_too_big++;
        return false;
    }
    p->ip6->hop_limit--;
    *packet = (struct hs_queued){
        .frame = p->frame,
        .length = hs_packet_frame_length(p),
        .next_hop6 = hs_address6_is_zero(&route->gateway) ? *destination : route->gateway,
        .side = route->side,
    };
    return true;
}
