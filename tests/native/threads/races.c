/* The packet thread under traffic while another thread asks as the shell does; built with -fsanitize=thread.
 *
 * Arguments: the interfaces inside and outside, and a neighbour's MAC (12 hex digits) on each. Prints what moved.
 */
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../check.h"
#include "io/packet_thread.h"

enum { ROUNDS = 400, PAUSE_US = 5000 };

static void describe(struct hs_gateway *g, char **arguments)
{
    struct hs_route routes[2] = {
        {hs_ip("10.0.1.0"), htonl(0xffffff00), 0, HS_INSIDE},
        {hs_ip("203.0.113.0"), htonl(0xffffff00), 0, HS_OUTSIDE},
    };
    struct hs_nat_rule *rule = &g->rules.nat[0];

    hs_next_hops_set_routes(&g->hops, routes, 2);
    for (int side = 0; side < HS_SIDES; side++) {
        struct hs_neighbour *neighbour = hs_next_hops_neighbour(
            &g->hops, side, hs_ip(side == HS_INSIDE ? "10.0.1.7" : "203.0.113.50"));

        neighbour->known = true;
        hs_hex(arguments[3 + side], neighbour->mac, 6);
        g->ports[side].mtu = 1500;
    }
    rule->sources.count = 1;
    rule->sources.list[0] = (struct hs_prefix){hs_ip("10.0.1.0"), htonl(0xffffff00)};
    rule->publics[0] = hs_ip("203.0.113.5");
    rule->public_count = 1;
    rule->port_first = 1024;
    rule->port_last = 65535;
    g->rules.nat_count = 1;
    if (!hs_gateway_nat_changed(g))
        abort();
    g->commit = HS_COMMIT_ACK;
    g->commit_timeout_ns = 1000000000;
}

/* One turn of the shell: drain, acknowledge, tick, look. */
static void ask(struct hs_packet_io *io, struct hs_gateway *g)
{
    static uint8_t records[65536];
    uint64_t now_ns = hs_boottime_ns();
    uint32_t count;

    hs_packet_io_lock(io);
    hs_delta_log_drain(&g->log, records, sizeof records, &count);
    hs_gateway_acknowledge(g, g->log.send_next - 1);
    hs_gateway_release(g, now_ns);
    hs_gateway_tick(g, now_ns);
    g->lease_until_ns = now_ns + 1000000000;
    hs_packet_io_unlock(io);
}

int main(int count, char **arguments)
{
    struct hs_packet_io *io = hs_packet_io_create();
    struct hs_gateway *g;
    struct hs_packet_thread *thread;

    if (count != 5 || !io)
        return 2;
    g = hs_gateway_create((struct hs_seed){1, 2}, (struct hs_gateway_limits){65536, 65536, 1024, 1 << 20, NULL},
                          (struct hs_output){hs_packet_io_send, io});
    describe(g, arguments);
    for (int side = 0; side < HS_SIDES; side++)
        CHECK(1, hs_packet_io_open(io, side, (int)if_nametoindex(arguments[1 + side]), side == 0, false) >= 0, 1);
    hs_gateway_arm(g, hs_boottime_ns());
    thread = hs_packet_thread_start(io, g);
    CHECK(2, thread != NULL, 1);
    for (int round = 0; round < ROUNDS; round++) {
        ask(io, g);
        usleep(PAUSE_US);
    }
    hs_packet_thread_stop(thread);
    printf("flows %" PRIu64 ", sent %" PRIu64 "\n", g->counters.flows_created, g->counters.sent_packets);
    CHECK(3, g->counters.flows_created > 10, 1);
    CHECK(4, g->counters.sent_packets > 100, 1);
    CHECK(5, g->held[0].count + g->held[1].count, 0);
    hs_gateway_destroy(g);
    hs_packet_io_destroy(io);
    return hs_check_result();
}
