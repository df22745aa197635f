#include "core/nat.h"

#include <arpa/inet.h>

/* One public address being searched. */
struct search {
    struct hs_nat *nat;
    const struct hs_nat_request *request;
    const struct hs_public_ports *public;
    struct hs_eligible eligible;
    uint32_t start; /* the preferred port */
    enum hs_port_half half;
    uint64_t random;
    struct hs_tuple *reply;
    uint32_t *probes;
};

/* Ports of one block, a bit each. */
struct candidates {
    uint64_t bits[HS_BLOCK_WORDS];
    uint32_t count;
};

static void set_port(struct hs_tuple *reply, uint32_t port)
{
    *(reply->proto == HS_ICMP ? &reply->src_port : &reply->dst_port) = htons((uint16_t)port);
}

/* Seconds for which the reply tuple is held from `owner` (NULL: from everybody else than its last). */
static uint32_t held_s(const struct search *s, const struct hs_tuple *reply, const struct hs_tuple *owner)
{
    if (!s->public->hold_down_s)
        return 0;
    return hs_hold_down_left_s(&s->nat->holds, s->request->table->seed, reply, owner, s->public->hold_down_s,
                               s->request->now_s);
}

/* Puts a port into the reply tuple; whether it is free. */
static bool try_port(const struct search *s, uint32_t port)
{
    const struct hs_flow *taken;

    set_port(s->reply, port);
    ++*s->probes;
    taken = hs_flow_table_find(s->request->table, s->reply).flow;
    if (taken && taken != s->request->instead)
        return false;
    if (!held_s(s, s->reply, s->request->original))
        return true;
    s->nat->held_down++;
    return false;
}

static bool try_neighbours(const struct search *s)
{
    uint32_t port = s->start;
    uint32_t looks = s->half == HS_WHOLE_RANGE ? HS_NAT_PROBES : 2 * HS_NAT_PROBES; /* every other pair is not ours */

    for (uint32_t i = 0; i < s->eligible.count && i < looks; i++) {
        if (hs_port_in_half(s->half, port) &&
            hs_nat_may_give(s->public, s->request->rule, s->reply->proto, port) && try_port(s, port))
            return true;
        port = port == hs_eligible_last(&s->eligible) ? s->eligible.first : port + s->eligible.step;
    }
    return false;
}

/* Clears the bits of [low, high], ports of the block that begins at `base`. */
static void clear_ports(uint64_t *bits, uint32_t base, uint32_t low, uint32_t high)
{
    low = low < base ? base : low;
    high = high >= base + HS_BLOCK_PORTS ? base + HS_BLOCK_PORTS - 1 : high;
    for (uint32_t port = low; port <= high; port = (port | 63) + 1) {
        uint32_t last = (port | 63) < high ? port | 63 : high;

        bits[(port - base) / 64] &= ~(UINT64_MAX >> (63 - (last - port)) << port % 64);
    }
}

/* What the rule would give out of a block. */
static struct candidates candidates_of(const struct search *s, uint32_t place)
{
    const struct hs_nat_rule *rule = s->request->rule;
    const uint64_t *denied = hs_public_denied(s->public, s->reply->proto) + place * HS_BLOCK_WORDS;
    uint32_t base = place * HS_BLOCK_PORTS;
    uint64_t parity = s->eligible.step == 1        ? UINT64_MAX
                      : s->eligible.first % 2 != 0 ? 0xaaaaaaaaaaaaaaaaull
                                                   : 0x5555555555555555ull;
    uint64_t half = s->half == HS_WHOLE_RANGE ? UINT64_MAX
                    : s->half == HS_HALF_A    ? 0x3333333333333333ull
                                              : 0xccccccccccccccccull; /* as hs_port_in_half */
    struct candidates c = {.count = 0};

    for (uint32_t word = 0; word < HS_BLOCK_WORDS; word++)
        c.bits[word] = ~denied[word] & parity & half;
    if (s->eligible.first > base)
        clear_ports(c.bits, base, base, s->eligible.first - 1u);
    clear_ports(c.bits, base, hs_eligible_last(&s->eligible) + 1, UINT32_MAX);
    for (uint32_t i = 0; i < rule->reserved_count; i++)
        clear_ports(c.bits, base, rule->reserved[i].first, rule->reserved[i].last);
    for (uint32_t word = 0; word < HS_BLOCK_WORDS; word++)
        c.count += (uint32_t)__builtin_popcountll(c.bits[word]);
    return c;
}

static void remove_taken(struct candidates *c, const struct hs_port_block *block)
{
    c->count = 0;
    for (uint32_t word = 0; word < HS_BLOCK_WORDS; word++) {
        c->bits[word] &= ~block->taken[word];
        c->count += (uint32_t)__builtin_popcountll(c->bits[word]);
    }
}

/* Takes one out of them, anywhere: the first from a random place on. There is one. */
static uint32_t take_candidate(struct search *s, struct candidates *c)
{
    uint32_t place, word, bit;
    uint64_t ahead;

    s->random = s->random * 6364136223846793005ull + 1442695040888963407ull; /* Knuth's; the seed is the secret */
    place = (uint32_t)(s->random >> 55);
    word = place / 64;
    ahead = c->bits[word] & UINT64_MAX << place % 64;
    while (!ahead)
        ahead = c->bits[word = (word + 1) % HS_BLOCK_WORDS];
    bit = (uint32_t)__builtin_ctzll(ahead);
    c->bits[word] &= ~(1ull << bit);
    c->count--;
    return word * 64 + bit;
}

/* Finds out which ports of a block are taken or held down. */
static void build_block(const struct search *s, uint32_t place, struct hs_port_block *block)
{
    const struct hs_flow_table *table = s->request->table;
    struct hs_tuple reply = *s->reply;
    uint32_t soonest_s = UINT32_MAX;

    *block = (struct hs_port_block){
        .public = reply.dst_addr,
        .remote = reply.src_addr,
        .remote_port = reply.proto == HS_ICMP ? 0 : reply.src_port,
        .proto = reply.proto,
        .place = (uint8_t)place,
    };
    for (uint32_t i = 0; i < HS_BLOCK_PORTS; i++) {
        struct hs_found found;
        uint32_t left_s;

        set_port(&reply, place * HS_BLOCK_PORTS + i);
        found = hs_flow_table_find(table, &reply);
        /* Of a flow whose original tuple it is the pool does not hear when it goes. */
        left_s = !found.flow ? held_s(s, &reply, NULL) : found.direction == HS_ORIGINAL;
        if (!found.flow && !left_s)
            continue;
        block->taken[i / 64] |= 1ull << i % 64;
        block->count++;
        if (left_s && left_s < soonest_s)
            soonest_s = left_s;
    }
    if (soonest_s != UINT32_MAX)
        block->recheck_s = (uint32_t)s->request->now_s + soonest_s;
    s->nat->pool.blocks_built++;
}

/* Some candidates of a block of which nothing is known; all of them where they are few. */
static bool try_unknown(struct search *s, uint32_t place, struct candidates *c)
{
    uint32_t tries = c->count <= HS_BLOCK_STORE ? c->count : HS_BLOCK_PROBES;

    while (tries--)
        if (try_port(s, place * HS_BLOCK_PORTS + take_candidate(s, c)))
            return true;
    return false;
}

/* The candidates that the bitmap calls free. Those held down came free a moment ago: it learns of them here. */
static bool try_known(struct search *s, struct candidates c, struct hs_port_block *block)
{
    remove_taken(&c, block);
    while (c.count) {
        uint32_t at = take_candidate(s, &c), again_s = (uint32_t)s->request->now_s + 1;

        if (try_port(s, block->place * HS_BLOCK_PORTS + at))
            return true;
        block->taken[at / 64] |= 1ull << at % 64;
        block->count++;
        if (!block->recheck_s || block->recheck_s > again_s)
            block->recheck_s = again_s;
    }
    return false;
}

static bool search_block(struct search *s, uint32_t place)
{
    struct hs_port_block *known = hs_port_pool_find(&s->nat->pool, s->reply, place), made;
    bool stale = known && known->recheck_s && known->recheck_s <= s->request->now_s;
    struct candidates candidates;

    if (known && known->count == HS_BLOCK_PORTS && !stale)
        return false;
    candidates = candidates_of(s, place);
    if (!candidates.count)
        return false;
    if (known) {
        if (try_known(s, candidates, known))
            return true;
        if (!stale)
            return false;
        hs_port_pool_drop(&s->nat->pool, known);
    } else if (try_unknown(s, place, &candidates)) {
        return true;
    }
    if (!candidates.count) /* all were tried */
        return false;
    build_block(s, place, &made);
    known = made.count >= HS_BLOCK_STORE ? hs_port_pool_store(&s->nat->pool, &made) : &made;
    return try_known(s, candidates, known);
}

static bool search_blocks(struct search *s)
{
    uint32_t first = s->eligible.first / HS_BLOCK_PORTS, last = hs_eligible_last(&s->eligible) / HS_BLOCK_PORTS;
    uint32_t place = s->start / HS_BLOCK_PORTS;

    for (uint32_t i = first; i <= last; i++) {
        if (search_block(s, place))
            return true;
        place = place == last ? first : place + 1;
    }
    return false;
}

static bool same_refusal(const struct hs_refusal *refusal, const struct search *s)
{
    const struct hs_tuple *reply = s->reply;

    return refusal->at_s == s->request->now_s && refusal->public == reply->dst_addr &&
           refusal->remote == reply->src_addr && refusal->proto == reply->proto && refusal->half == s->half &&
           refusal->remote_port == (reply->proto == HS_ICMP ? 0 : reply->src_port) &&
           refusal->rule == s->request->rule && refusal->eligible.first == s->eligible.first &&
           refusal->eligible.step == s->eligible.step && refusal->eligible.count == s->eligible.count;
}

static bool search_address(struct search *s)
{
    struct hs_refusal *refusal;

    s->public = hs_port_pool_public(&s->nat->pool, s->reply->dst_addr);
    if (!s->public)
        return false;
    if (try_neighbours(s))
        return true;
    refusal = hs_port_pool_refusal(&s->nat->pool, s->reply);
    if (same_refusal(refusal, s))
        return false;
    if (search_blocks(s))
        return true;
    *refusal = (struct hs_refusal){
        .public = s->reply->dst_addr,
        .remote = s->reply->src_addr,
        .remote_port = s->reply->proto == HS_ICMP ? 0 : s->reply->src_port,
        .proto = s->reply->proto,
        .half = (uint8_t)s->half,
        .at_s = s->request->now_s,
        .rule = s->request->rule,
        .eligible = s->eligible,
    };
    return false;
}

/* Where the search begins: one private host keeps one public address (RFC 4787 REQ-2, paired pooling) while that has
 * ports. */
static uint64_t own_public(const struct hs_nat_request *request)
{
    const uint32_t *host = &request->original->src_addr;

    return hs_siphash(request->table->seed, host, sizeof *host);
}

static uint32_t preferred_port(const struct hs_eligible *eligible, uint64_t hash)
{
    return eligible->first + hs_nat_preferred_place((uint32_t)(hash >> 32), eligible->count) * eligible->step;
}

void hs_nat_preference(const struct hs_nat_request *request, struct hs_tuple *reply)
{
    const struct hs_tuple *original = request->original;
    const struct hs_nat_rule *rule = request->rule;
    struct hs_eligible eligible = hs_nat_eligible(rule, original->proto, ntohs(original->src_port));

    *reply = hs_tuple_invert(original);
    if (rule->public_count)
        reply->dst_addr = rule->publics[own_public(request) % rule->public_count];
    set_port(reply, preferred_port(&eligible, hs_siphash(request->table->seed, original, sizeof *original)));
}

static bool search_addresses(struct search *s, enum hs_port_half half)
{
    const struct hs_nat_rule *rule = s->request->rule;
    uint64_t own = own_public(s->request);

    s->half = half;
    for (uint32_t a = 0; a < rule->public_count; a++) {
        s->reply->dst_addr = rule->publics[(own + a) % rule->public_count];
        if (search_address(s))
            return true;
    }
    return false;
}

bool hs_nat_allocate(struct hs_nat *nat, const struct hs_nat_request *request, struct hs_tuple *reply,
                     uint32_t *probes)
{
    const struct hs_tuple *original = request->original;
    uint64_t hash = hs_siphash(request->table->seed, original, sizeof *original);
    struct search search = {
        .nat = nat,
        .request = request,
        .eligible = hs_nat_eligible(request->rule, original->proto, ntohs(original->src_port)),
        .random = hash,
        .reply = reply,
        .probes = probes,
    };

    *reply = hs_tuple_invert(original);
    *probes = 0;
    search.start = preferred_port(&search.eligible, hash);
    if (search_addresses(&search, nat->half))
        return true;
    if (nat->half == HS_WHOLE_RANGE || !search_addresses(&search, HS_WHOLE_RANGE))
        return false;
    nat->other_half++;
    return true;
}
