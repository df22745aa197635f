#include "core/port_pool.h"

#include <arpa/inet.h>
#include <stdlib.h>

static int index_of(uint8_t proto)
{
    return proto == HS_TCP ? 0 : proto == HS_UDP ? 1 : 2;
}

static uint16_t public_port(const struct hs_tuple *reply)
{
    return ntohs(reply->proto == HS_ICMP ? reply->src_port : reply->dst_port);
}

static uint16_t remote_port(const struct hs_tuple *reply)
{
    return reply->proto == HS_ICMP ? 0 : reply->src_port;
}

bool hs_port_pool_init(struct hs_port_pool *pool)
{
    *pool = (struct hs_port_pool){.public_count = 0};
    for (int set = 0; set < HS_PAGE_SETS; set++)
        for (int way = 0; way < HS_PAGE_WAYS; way++)
            if (!(pool->pages[set][way].taken = calloc(HS_PORT_WORDS, sizeof(uint64_t))))
                return false;
    return true;
}

static void free_publics(struct hs_port_pool *pool)
{
    for (uint32_t i = 0; i < pool->public_count; i++) {
        for (int proto = 0; proto < 3; proto++) {
            free(pool->publics[i].flows[proto]);
            free(pool->publics[i].used[proto]);
        }
    }
    free(pool->publics);
    pool->publics = NULL;
    pool->public_count = 0;
}

void hs_port_pool_free(struct hs_port_pool *pool)
{
    free_publics(pool);
    for (int set = 0; set < HS_PAGE_SETS; set++)
        for (int way = 0; way < HS_PAGE_WAYS; way++)
            free(pool->pages[set][way].taken);
}

static int compare_addresses(const void *a, const void *b)
{
    uint32_t left = ((const struct hs_public_ports *)a)->address;
    uint32_t right = ((const struct hs_public_ports *)b)->address;

    return (left > right) - (left < right);
}

static struct hs_public_ports *find_public(const struct hs_port_pool *pool, uint32_t address)
{
    uint32_t low = 0, high = pool->public_count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (pool->publics[middle].address == address)
            return &pool->publics[middle];
        if (pool->publics[middle].address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool allocate_public(struct hs_public_ports *public)
{
    for (int proto = 0; proto < 3; proto++) {
        public->flows[proto] = calloc(65536, sizeof(uint32_t));
        public->used[proto] = calloc(HS_PORT_WORDS, sizeof(uint64_t));
        if (!public->flows[proto] || !public->used[proto])
            return false;
    }
    return true;
}

bool hs_port_pool_configure(struct hs_port_pool *pool, const uint32_t *addresses, uint32_t count,
                            const struct hs_flow_table *table)
{
    uint32_t kept = 0;

    free_publics(pool);
    pool->publics = calloc(count + 1, sizeof *pool->publics);
    if (!pool->publics)
        return false;
    for (uint32_t i = 0; i < count; i++)
        pool->publics[i].address = addresses[i];
    qsort(pool->publics, count, sizeof *pool->publics, compare_addresses);
    for (uint32_t i = 0; i < count; i++)
        if (!i || pool->publics[i].address != pool->publics[kept - 1].address)
            pool->publics[kept++].address = pool->publics[i].address;
    pool->public_count = kept;
    for (uint32_t i = 0; i < kept; i++) {
        if (!allocate_public(&pool->publics[i])) {
            free_publics(pool);
            return false;
        }
    }
    hs_port_pool_recount(pool, table);
    return true;
}

void hs_port_pool_recount(struct hs_port_pool *pool, const struct hs_flow_table *table)
{
    for (int set = 0; set < HS_PAGE_SETS; set++)
        for (int way = 0; way < HS_PAGE_WAYS; way++)
            pool->pages[set][way].proto = 0;
    for (uint32_t i = 0; i < pool->public_count; i++) {
        for (int proto = 0; proto < 3; proto++) {
            memset(pool->publics[i].flows[proto], 0, 65536 * sizeof(uint32_t));
            memset(pool->publics[i].used[proto], 0, HS_PORT_WORDS * sizeof(uint64_t));
        }
    }
    for (uint32_t word = 0; word < table->words; word++)
        for (uint64_t bits = table->used[word]; bits; bits &= bits - 1)
            hs_port_pool_take(
                pool, &table->flows[word * 64 + (uint32_t)__builtin_ctzll(bits)].tuple[HS_REPLY]);
}

static struct hs_port_page *page_set(struct hs_port_pool *pool, const struct hs_tuple *reply)
{
    uint32_t mixed = (reply->src_addr ^ reply->dst_addr * 31u ^ remote_port(reply) * 0x10001u ^
                      reply->proto * 0x01000193u) *
                     0x9e3779b1u;

    return pool->pages[mixed >> 28];
}

static struct hs_port_page *find_page(struct hs_port_pool *pool, const struct hs_tuple *reply)
{
    struct hs_port_page *set = page_set(pool, reply);

    for (int way = 0; way < HS_PAGE_WAYS; way++)
        if (set[way].proto == reply->proto && set[way].remote == reply->src_addr &&
            set[way].public == reply->dst_addr && set[way].remote_port == remote_port(reply))
            return &set[way];
    return NULL;
}

void hs_port_pool_take(struct hs_port_pool *pool, const struct hs_tuple *reply)
{
    struct hs_public_ports *public = find_public(pool, reply->dst_addr);
    struct hs_port_page *page = find_page(pool, reply);
    uint16_t port = public_port(reply);
    int proto = index_of(reply->proto);

    if (reply->family != HS_IPV4)
        return; /* a fold that happens to be a public address */
    if (page)
        page->taken[port / 64] |= 1ull << port % 64;
    if (!public)
        return;
    public->flows[proto][port]++;
    public->used[proto][port / 64] |= 1ull << port % 64;
}

void hs_port_pool_release(struct hs_port_pool *pool, const struct hs_tuple *reply)
{
    struct hs_public_ports *public = find_public(pool, reply->dst_addr);
    struct hs_port_page *page = find_page(pool, reply);
    uint16_t port = public_port(reply);
    int proto = index_of(reply->proto);

    if (reply->family != HS_IPV4)
        return;
    if (page) {
        page->taken[port / 64] &= ~(1ull << port % 64);
        page->failed_s = 0;
    }
    if (!public || !public->flows[proto][port])
        return;
    if (!--public->flows[proto][port])
        public->used[proto][port / 64] &= ~(1ull << port % 64);
}

const uint64_t *hs_port_pool_used(const struct hs_port_pool *pool, uint32_t address, uint8_t proto)
{
    const struct hs_public_ports *public = find_public(pool, address);

    return public ? public->used[index_of(proto)] : NULL;
}

/* A port that nobody uses is free towards this destination too: only the others are looked up. */
static void fill_page(struct hs_port_page *page, const uint64_t *used, const struct hs_flow_table *table,
                      struct hs_tuple reply)
{
    for (uint32_t word = 0; word < HS_PORT_WORDS; word++) {
        page->taken[word] = 0;
        for (uint64_t bits = used ? used[word] : UINT64_MAX; bits; bits &= bits - 1) {
            uint32_t bit = (uint32_t)__builtin_ctzll(bits);
            uint16_t port = htons((uint16_t)(word * 64 + bit));

            *(reply.proto == HS_ICMP ? &reply.src_port : &reply.dst_port) = port;
            if (hs_flow_table_find(table, &reply).flow)
                page->taken[word] |= 1ull << bit;
        }
    }
}

struct hs_port_page *hs_port_pool_page(struct hs_port_pool *pool, const struct hs_flow_table *table,
                                       const struct hs_tuple *reply, bool build)
{
    struct hs_port_page *page = find_page(pool, reply), *set = page_set(pool, reply);
    uint64_t *taken;

    pool->lookups++;
    if (!page && build) {
        page = set;
        for (int way = 1; way < HS_PAGE_WAYS; way++)
            if (!set[way].proto || (page->proto && set[way].used_at < page->used_at))
                page = &set[way];
        taken = page->taken;
        *page = (struct hs_port_page){
            .public = reply->dst_addr,
            .remote = reply->src_addr,
            .remote_port = remote_port(reply),
            .proto = reply->proto,
            .taken = taken,
        };
        fill_page(page, hs_port_pool_used(pool, reply->dst_addr, reply->proto), table, *reply);
        pool->pages_built++;
    }
    if (page)
        page->used_at = pool->lookups;
    return page;
}

int32_t hs_port_bitmap_find(const uint64_t *bitmap, const struct hs_eligible *eligible, uint32_t low,
                            uint32_t high)
{
    uint64_t mask = UINT64_MAX;

    if (eligible->step == 2)
        mask = eligible->first % 2 ? 0xaaaaaaaaaaaaaaaaull : 0x5555555555555555ull;
    for (uint32_t word = low / 64; low <= high && word <= high / 64; word++) {
        uint64_t bits = ~bitmap[word] & mask;

        if (word == low / 64)
            bits &= UINT64_MAX << low % 64;
        if (word == high / 64)
            bits &= UINT64_MAX >> (63 - high % 64);
        if (bits)
            return (int32_t)(word * 64 + (uint32_t)__builtin_ctzll(bits));
    }
    return -1;
}
