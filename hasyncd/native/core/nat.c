#include "core/nat.h"

#include <arpa/inet.h>
#include <stdlib.h>

/* One public address being searched. */
struct search {
    struct hs_nat *nat;
    const struct hs_nat_request *request;
    struct hs_eligible eligible;
    uint32_t start; /* the preferred port */
    struct hs_tuple *reply;
    uint32_t *probes;
};

bool hs_nat_init(struct hs_nat *nat, uint32_t capacity)
{
    nat->held_down = nat->builds_s = 0;
    nat->closing_place = nat->scan_place = nat->builds = 0;
    return hs_port_pool_init(&nat->pool) && hs_hold_down_init(&nat->holds, capacity);
}

void hs_nat_free(struct hs_nat *nat)
{
    hs_port_pool_free(&nat->pool);
    hs_hold_down_free(&nat->holds);
}

bool hs_nat_configure(struct hs_nat *nat, const struct hs_rules *rules,
                      const struct hs_flow_table *table)
{
    uint32_t *addresses = malloc(HS_NAT_RULES_MAX * HS_PUBLICS_MAX * sizeof *addresses), count = 0;
    bool done;

    if (!addresses)
        return false;
    for (uint32_t rule = 0; rule < rules->nat_count; rule++)
        for (uint32_t i = 0; i < rules->nat[rule].public_count; i++)
            addresses[count++] = rules->nat[rule].publics[i];
    done = hs_port_pool_configure(&nat->pool, addresses, count, table);
    free(addresses);
    return done;
}

uint32_t hs_nat_preferred_place(uint32_t hash, uint32_t count)
{
    return (uint32_t)((uint64_t)hash * count >> 32);
}

struct hs_eligible hs_nat_eligible(const struct hs_nat_rule *rule, uint8_t proto, uint16_t port)
{
    uint32_t first = rule->port_first, last = rule->port_last;

    /* A range that has none of the class serves with what it has. */
    if (rule->port_classes && proto != HS_ICMP) {
        if (port < 1024 && first < 1024)
            last = last < 1023 ? last : 1023;
        else if (port >= 1024 && last >= 1024)
            first = first > 1024 ? first : 1024;
    }
    if (!rule->preserve_parity || proto != HS_UDP || (first == last && (first ^ port) & 1))
        return (struct hs_eligible){(uint16_t)first, 1, last - first + 1};
    first += (first ^ port) & 1;
    return (struct hs_eligible){(uint16_t)first, 2, (last - first) / 2 + 1};
}

static uint32_t last_port(const struct hs_eligible *eligible)
{
    return eligible->first + (eligible->count - 1) * eligible->step;
}

static bool is_reserved(const struct hs_nat_rule *rule, uint32_t port)
{
    for (uint32_t i = 0; i < rule->reserved_count; i++)
        if (port >= rule->reserved[i].first && port <= rule->reserved[i].last)
            return true;
    return false;
}

static bool is_held_down(const struct search *s)
{
    const struct hs_nat_request *r = s->request;

    if (!r->rule->hold_down_s || !hs_hold_down_covers(&s->nat->holds, r->table->seed, s->reply, r->original,
                                                      r->rule->hold_down_s, r->now_s))
        return false;
    s->nat->held_down++;
    return true;
}

/* Puts a port into the reply tuple; whether it may be given out. */
static bool try_port(const struct search *s, uint32_t port)
{
    struct hs_tuple *reply = s->reply;

    *(reply->proto == HS_ICMP ? &reply->src_port : &reply->dst_port) = htons((uint16_t)port);
    /* A port where a service or a forward listens stays its own: its next client may have this very tuple. */
    if (is_reserved(s->request->rule, port))
        return false;
    if (reply->proto != HS_ICMP &&
        (hs_rules_find_service(s->request->rules, reply->dst_addr, reply->dst_port, reply->proto) >= 0 ||
         hs_rules_find_forward(s->request->rules, reply->dst_addr, reply->dst_port, reply->proto)))
        return false;
    ++*s->probes;
    return !hs_flow_table_find(s->request->table, reply).flow && !is_held_down(s);
}

static bool try_neighbours(const struct search *s)
{
    uint32_t port = s->start;

    for (uint32_t i = 0; i < s->eligible.count && i < HS_NAT_PROBES; i++) {
        if (try_port(s, port))
            return true;
        port = port == last_port(&s->eligible) ? s->eligible.first : port + s->eligible.step;
    }
    return false;
}

/* Every clear bit from the preferred port on, and around. */
static bool try_bitmap(const struct search *s, const uint64_t *bitmap)
{
    uint32_t lows[2] = {s->start, s->eligible.first};
    uint32_t highs[2] = {last_port(&s->eligible), s->start - 1};
    uint32_t looks = HS_NAT_LOOKS_MAX;

    for (int piece = 0; piece < 2 && looks; piece++) {
        int32_t port = hs_port_bitmap_find(bitmap, &s->eligible, lows[piece], highs[piece]);

        while (port >= 0 && looks--) {
            if (try_port(s, (uint32_t)port))
                return true;
            port = hs_port_bitmap_find(bitmap, &s->eligible, (uint32_t)port + 1, highs[piece]);
        }
    }
    return false;
}

static bool same_eligible(const struct hs_eligible *a, const struct hs_eligible *b)
{
    return a->first == b->first && a->step == b->step && a->count == b->count;
}

static bool may_build_page(struct hs_nat *nat, uint64_t now_s)
{
    if (nat->builds_s != now_s) {
        nat->builds_s = now_s;
        nat->builds = 0;
    }
    return nat->builds++ < HS_PAGE_BUILDS_PER_S;
}

/* Without a page: some ports, and the next packet looks at the next ones. */
static bool try_in_turn(const struct search *s)
{
    for (uint32_t i = 0; i < HS_NAT_LOOKS_MAX && i < s->eligible.count; i++) {
        uint32_t place = s->nat->scan_place++ % s->eligible.count;

        if (try_port(s, s->eligible.first + place * s->eligible.step))
            return true;
    }
    return false;
}

static bool search_address(const struct search *s)
{
    struct hs_port_pool *pool = &s->nat->pool;
    struct hs_port_page *page = hs_port_pool_page(pool, s->request->table, s->reply, false);
    const uint64_t *used = hs_port_pool_used(pool, s->reply->dst_addr, s->reply->proto);

    if (try_neighbours(s))
        return true;
    /* Nothing was freed since the last refusal of this second: it need not be found out again. */
    if (page && page->failed_s && page->failed_s == s->request->now_s &&
        same_eligible(&page->failed, &s->eligible))
        return false;
    if (used && try_bitmap(s, used))
        return true;
    if (!page && !may_build_page(s->nat, s->request->now_s))
        return try_in_turn(s);
    page = hs_port_pool_page(pool, s->request->table, s->reply, true);
    if (try_bitmap(s, page->taken))
        return true;
    page->failed_s = s->request->now_s;
    page->failed = s->eligible;
    return false;
}

bool hs_nat_allocate(struct hs_nat *nat, const struct hs_nat_request *request, struct hs_tuple *reply,
                     uint32_t *probes)
{
    const struct hs_tuple *original = request->original;
    const struct hs_nat_rule *rule = request->rule;
    struct hs_seed seed = request->table->seed;
    uint64_t hash = hs_siphash(seed, original, sizeof *original);
    /* One private host keeps one public address (RFC 4787 REQ-2, paired pooling) while that has ports. */
    uint64_t host = hs_siphash(seed, &original->src_addr, sizeof original->src_addr);
    struct search search = {
        .nat = nat,
        .request = request,
        .eligible = hs_nat_eligible(rule, original->proto, ntohs(original->src_port)),
        .reply = reply,
        .probes = probes,
    };

    *reply = hs_tuple_invert(original);
    *probes = 0;
    search.start = search.eligible.first +
                   hs_nat_preferred_place((uint32_t)(hash >> 32), search.eligible.count) *
                       search.eligible.step;
    for (uint32_t a = 0; a < rule->public_count; a++) {
        reply->dst_addr = rule->publics[(host + a) % rule->public_count];
        if (search_address(&search))
            return true;
    }
    return false;
}

static bool is_closing(const struct hs_flow *flow, uint32_t sequence)
{
    return (flow->state == HS_TCP_TIME_WAIT || flow->state == HS_TCP_CLOSE) && flow->local & HS_LOCAL_SEQUENCE &&
           (int32_t)(sequence - flow->sequence) > 0;
}

struct hs_flow *hs_nat_find_closing(struct hs_nat *nat, const struct hs_nat_request *request,
                                    uint32_t sequence, struct hs_tuple *reply)
{
    const struct hs_nat_rule *rule = request->rule;
    struct hs_eligible eligible =
        hs_nat_eligible(rule, request->original->proto, ntohs(request->original->src_port));
    uint32_t places = eligible.count * rule->public_count;

    *reply = hs_tuple_invert(request->original);
    for (uint32_t i = 0; i < places && i < HS_NAT_EVICT_PROBES; i++) {
        uint32_t place = nat->closing_place++ % places;
        struct hs_found found;

        reply->dst_addr = rule->publics[place / eligible.count];
        reply->dst_port = htons((uint16_t)(eligible.first + place % eligible.count * eligible.step));
        found = hs_flow_table_find(request->table, reply);
        if (found.flow && found.direction == HS_REPLY && is_closing(found.flow, sequence))
            return found.flow;
    }
    return NULL;
}
