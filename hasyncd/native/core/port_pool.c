#include "core/port_pool.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "core/flow_table.h"

/* Flows and ports held down are at most one and a half of the capacity; each bitmap has HS_BLOCK_KEEP of them. */
enum { FLOWS_A_BLOCK = 120, BLOCKS_MIN = 256 };

static uint16_t public_port(const struct hs_tuple *reply)
{
    return ntohs(reply->proto == HS_ICMP ? reply->src_port : reply->dst_port);
}

static uint16_t remote_port(const struct hs_tuple *reply)
{
    return reply->proto == HS_ICMP ? 0 : reply->src_port;
}

bool hs_port_pool_init(struct hs_port_pool *pool, uint32_t capacity)
{
    *pool = (struct hs_port_pool){.size = capacity / FLOWS_A_BLOCK + BLOCKS_MIN};
    pool->blocks = calloc(pool->size, sizeof *pool->blocks);
    pool->heads = malloc(pool->size * sizeof *pool->heads);
    if (!pool->blocks || !pool->heads)
        return false;
    hs_port_pool_clear(pool, (struct hs_seed){0, 0});
    return true;
}

static void free_publics(struct hs_port_pool *pool)
{
    for (uint32_t i = 0; i < pool->public_count; i++)
        for (int proto = 0; proto < 3; proto++)
            free(pool->publics[i].denied[proto]);
    free(pool->publics);
    pool->publics = NULL;
    pool->public_count = 0;
}

void hs_port_pool_free(struct hs_port_pool *pool)
{
    free_publics(pool);
    free(pool->blocks);
    free(pool->heads);
}

static int compare_addresses(const void *a, const void *b)
{
    uint32_t left = ((const struct hs_public_ports *)a)->address;
    uint32_t right = ((const struct hs_public_ports *)b)->address;

    return (left > right) - (left < right);
}

struct hs_public_ports *hs_port_pool_public(const struct hs_port_pool *pool, uint32_t address)
{
    struct hs_public_ports wanted = {.address = address};

    return pool->public_count
               ? bsearch(&wanted, pool->publics, pool->public_count, sizeof wanted, compare_addresses)
               : NULL;
}

bool hs_port_pool_configure(struct hs_port_pool *pool, const uint32_t *addresses, uint32_t count)
{
    uint32_t kept = 0;
    bool failed = false;

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
    for (uint32_t i = 0; i < kept; i++)
        for (int proto = 0; proto < 3; proto++)
            failed |= !(pool->publics[i].denied[proto] = calloc(HS_PORT_WORDS, sizeof(uint64_t)));
    if (failed)
        free_publics(pool);
    return !failed;
}

uint64_t *hs_public_denied(const struct hs_public_ports *public, uint8_t proto)
{
    return public->denied[proto == HS_TCP ? 0 : proto == HS_UDP ? 1 : 2];
}

void hs_public_deny(const struct hs_public_ports *public, uint8_t proto, uint16_t port)
{
    hs_public_denied(public, proto)[port / 64] |= 1ull << port % 64;
}

void hs_port_pool_clear(struct hs_port_pool *pool, struct hs_seed seed)
{
    uint64_t mixed[2] = {seed.k0, seed.k1};

    for (uint32_t i = 0; i < 3; i++) {
        mixed[0] = seed.k0 + i;
        pool->key[i] = hs_siphash(seed, mixed, sizeof mixed);
    }
    memset(pool->heads, 0xff, pool->size * sizeof *pool->heads);
    memset(pool->refusals, 0, sizeof pool->refusals);
    for (uint32_t i = 0; i < pool->size; i++)
        pool->blocks[i].next = i + 1 < pool->size ? i + 1 : HS_NOTHING;
    pool->free = pool->live = pool->hand = 0;
}

/* A universal hash (NH, of UMAC): who does not know the key cannot make destinations meet in one chain. */
static uint64_t mix(const struct hs_port_pool *pool, uint32_t public, uint32_t remote, uint32_t rest)
{
    uint64_t product = (uint64_t)(uint32_t)(public + pool->key[0]) * (uint32_t)(remote + (pool->key[0] >> 32));

    product += (uint64_t)(uint32_t)(rest + pool->key[1]) * (uint32_t)(pool->key[1] >> 32 | 1);
    return product * (pool->key[2] | 1);
}

/* Neighbouring blocks of one destination are neighbours in `heads`: a search walks along a cache line. */
static uint32_t *head_of(const struct hs_port_pool *pool, uint64_t hash, uint32_t place)
{
    uint32_t at = (uint32_t)((hash >> 32) * pool->size >> 32) + place;

    return &pool->heads[at % pool->size];
}

static uint64_t hash_of(const struct hs_port_pool *pool, const struct hs_tuple *reply)
{
    return mix(pool, reply->dst_addr, reply->src_addr, (uint32_t)remote_port(reply) << 8 | reply->proto);
}

static struct hs_port_block *find(const struct hs_port_pool *pool, const struct hs_tuple *reply, uint64_t hash,
                                  uint32_t place)
{
    for (uint32_t at = *head_of(pool, hash, place); at != HS_NOTHING; at = pool->blocks[at].next) {
        struct hs_port_block *block = &pool->blocks[at];

        if (block->remote == reply->src_addr && block->public == reply->dst_addr && block->place == place &&
            block->remote_port == remote_port(reply) && block->proto == reply->proto)
            return block;
    }
    return NULL;
}

struct hs_port_block *hs_port_pool_find(const struct hs_port_pool *pool, const struct hs_tuple *reply, uint32_t place)
{
    return pool->live ? find(pool, reply, hash_of(pool, reply), place) : NULL;
}

struct hs_refusal *hs_port_pool_refusal(struct hs_port_pool *pool, const struct hs_tuple *reply)
{
    return &pool->refusals[hash_of(pool, reply) >> 56 & (HS_REFUSALS - 1)];
}

void hs_port_pool_take(struct hs_port_pool *pool, const struct hs_tuple *reply)
{
    uint16_t port = public_port(reply);
    struct hs_port_block *block = hs_port_pool_find(pool, reply, port / HS_BLOCK_PORTS);
    uint64_t bit = 1ull << port % 64;

    if (!block || block->taken[port % HS_BLOCK_PORTS / 64] & bit)
        return;
    block->taken[port % HS_BLOCK_PORTS / 64] |= bit;
    block->count++;
}

void hs_port_pool_release(struct hs_port_pool *pool, const struct hs_tuple *reply)
{
    uint64_t hash = hash_of(pool, reply);
    uint16_t port = public_port(reply);
    uint64_t bit = 1ull << port % 64;
    struct hs_port_block *block;

    pool->refusals[hash >> 56 & (HS_REFUSALS - 1)].at_s = 0;
    block = pool->live ? find(pool, reply, hash, port / HS_BLOCK_PORTS) : NULL;
    if (!block || !(block->taken[port % HS_BLOCK_PORTS / 64] & bit))
        return;
    block->taken[port % HS_BLOCK_PORTS / 64] &= ~bit;
    if (--block->count < HS_BLOCK_KEEP)
        hs_port_pool_drop(pool, block);
}

static uint32_t *head_of_block(const struct hs_port_pool *pool, const struct hs_port_block *block)
{
    return head_of(pool, mix(pool, block->public, block->remote, (uint32_t)block->remote_port << 8 | block->proto),
                   block->place);
}

void hs_port_pool_drop(struct hs_port_pool *pool, struct hs_port_block *block)
{
    uint32_t self = (uint32_t)(block - pool->blocks), *at = head_of_block(pool, block);

    while (*at != self)
        at = &pool->blocks[*at].next;
    *at = block->next;
    block->next = pool->free;
    pool->free = self;
    pool->live--;
}

struct hs_port_block *hs_port_pool_store(struct hs_port_pool *pool, const struct hs_port_block *made)
{
    struct hs_port_block *block;
    uint32_t *head;

    if (pool->free == HS_NOTHING) /* all are in use: any may go, what it said can be found out again */
        hs_port_pool_drop(pool, &pool->blocks[pool->hand++ % pool->size]);
    block = &pool->blocks[pool->free];
    pool->free = block->next;
    *block = *made;
    head = head_of_block(pool, block);
    block->next = *head;
    *head = (uint32_t)(block - pool->blocks);
    pool->live++;
    return block;
}
