#include "io/flow_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    CHANGES = 64,  /* flows that go into the kernel by one system call */
    BATCHES = 16,  /* of these in one go; the rest waits for the next, at most a tick */
    PURGES = 64,   /* calls in one go: 8,192 entries, some 2 ms */
};

/* Both entries of some flows of one family, side by side as bpf(2) takes them. */
struct batch {
    uint32_t count; /* entries */
    uint32_t slots[2 * CHANGES];
    uint8_t keys[2 * CHANGES * sizeof(union hs_offload_key)];
    uint8_t entries[2 * CHANGES * sizeof(union hs_offload_entry)];
};

struct hs_flow_cache {
    struct hs_flow_cache_maps maps;
    struct hs_cache_use *uses;
    struct hs_cache_control *control;
    size_t uses_bytes, control_bytes;
    struct hs_cache_counters *counted; /* one a CPU */
    struct batch put[2], taken[2];     /* by family */
    bool purging[2];                   /* what the map holds is of a table that is no more */
    uint32_t purged_to[2];             /* the map's own word for how far; 0: its beginning */
};

static const uint32_t key_bytes[2] = {sizeof(struct hs_cache_key), sizeof(struct hs_cache_key6)};
static const uint32_t entry_bytes[2] = {sizeof(struct hs_cache_entry), sizeof(struct hs_cache_entry6)};

static int bpf(int command, union bpf_attr *attribute)
{
    return (int)syscall(SYS_bpf, command, attribute, sizeof *attribute);
}

static uint64_t pointer(const void *at)
{
    return (uint64_t)(uintptr_t)at;
}

static void *map_array(int fd, size_t bytes, size_t *mapped)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *at;

    *mapped = (bytes + page - 1) / page * page;
    at = mmap(NULL, *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

struct hs_flow_cache *hs_flow_cache_open(const struct hs_flow_cache_maps *maps, uint32_t capacity)
{
    struct hs_flow_cache *cache = calloc(1, sizeof *cache);
    int *mine[] = {&cache->maps.flows, &cache->maps.flows6, &cache->maps.counters};
    const int theirs[] = {maps->flows, maps->flows6, maps->counters};

    if (!cache)
        return NULL;
    for (int i = 0; i < 3; i++)
        *mine[i] = fcntl(theirs[i], F_DUPFD_CLOEXEC, 0);
    cache->maps.cpus = maps->cpus;
    cache->counted = calloc(maps->cpus, sizeof *cache->counted);
    cache->uses = map_array(maps->uses, 2ull * capacity * sizeof *cache->uses, &cache->uses_bytes);
    cache->control = map_array(maps->control, sizeof *cache->control, &cache->control_bytes);
    if (cache->counted && cache->uses && cache->control && cache->maps.flows >= 0 && cache->maps.flows6 >= 0 &&
        cache->maps.counters >= 0)
        return cache;
    hs_flow_cache_close(cache);
    return NULL;
}

void hs_flow_cache_close(struct hs_flow_cache *cache)
{
    int error = errno;

    if (!cache)
        return;
    if (cache->uses)
        munmap(cache->uses, cache->uses_bytes);
    if (cache->control)
        munmap(cache->control, cache->control_bytes);
    close(cache->maps.flows);
    close(cache->maps.flows6);
    close(cache->maps.counters);
    free(cache->counted);
    free(cache);
    errno = error;
}

int hs_flow_cache_start(struct hs_flow_cache *cache, struct hs_gateway *g, const uint32_t ifindex[HS_SIDES])
{
    return hs_offload_start(g, cache->uses, cache->control, ifindex) ? 0 : ENOMEM;
}

/* How many entries of the batch are done, from `from` on; the one behind them, if there is one, is refused. */
static uint32_t perform(int command, int fd, const struct batch *batch, bool is6, uint32_t from)
{
    union bpf_attr attribute = {.batch = {
                                    .keys = pointer(batch->keys + from * key_bytes[is6]),
                                    .values = pointer(batch->entries + from * entry_bytes[is6]),
                                    .count = batch->count - from,
                                    .map_fd = (uint32_t)fd,
                                }};

    return bpf(command, &attribute) && attribute.batch.count > batch->count - from ? 0 : attribute.batch.count;
}

static int map_of(const struct hs_flow_cache *cache, bool is6)
{
    return is6 ? cache->maps.flows6 : cache->maps.flows;
}

static void take_out(struct hs_flow_cache *cache, bool is6)
{
    struct batch *batch = &cache->taken[is6];

    /* One that is not there (the map had no room for it) ends the call: the next begins behind it. */
    for (uint32_t done = 0; done < batch->count; done++)
        done += perform(BPF_MAP_DELETE_BATCH, map_of(cache, is6), batch, is6, done);
    batch->count = 0;
}

/* The entry at `at` was refused: its flow's other one, beside it, goes too. */
static void drop_pair(const struct hs_flow_cache *cache, const struct batch *batch, bool is6, uint32_t at)
{
    for (uint32_t i = at ? at - 1 : 0; i <= at + 1 && i < batch->count; i++) {
        union bpf_attr attribute = {.map_fd = (uint32_t)map_of(cache, is6),
                                    .key = pointer(batch->keys + i * key_bytes[is6])};

        if (batch->slots[i] == batch->slots[at])
            bpf(BPF_MAP_DELETE_ELEM, &attribute);
    }
}

/* Without room for both entries there is neither: the flow stays with the engine, which asks again in a lap's time. */
static void put_in(struct hs_flow_cache *cache, struct hs_gateway *g, bool is6)
{
    struct batch *batch = &cache->put[is6];

    for (uint32_t done = 0; done < batch->count; done++) {
        done += perform(BPF_MAP_UPDATE_BATCH, map_of(cache, is6), batch, is6, done);
        if (done >= batch->count)
            break;
        hs_offload_refused(g, batch->slots[done]);
        drop_pair(cache, batch, is6, done);
        done += done + 1 < batch->count && batch->slots[done + 1] == batch->slots[done];
    }
    batch->count = 0;
}

static void append(struct batch *batch, const struct hs_offload_change *change)
{
    for (uint32_t direction = 0; direction < change->directions; direction++, batch->count++) {
        batch->slots[batch->count] = change->slot;
        memcpy(batch->keys + batch->count * key_bytes[change->is6], &change->keys[direction], key_bytes[change->is6]);
        memcpy(batch->entries + batch->count * entry_bytes[change->is6], &change->entries[direction],
               entry_bytes[change->is6]);
    }
}

/* Takes some entries out of one map; false: there are none left. */
static bool purge_some(struct hs_flow_cache *cache, bool is6)
{
    struct batch *scratch = &cache->put[is6]; /* empty, as always between two settlings */
    uint32_t *at = &cache->purged_to[is6], next = 0;
    union bpf_attr attribute = {.batch = {
                                    .in_batch = *at ? pointer(at) : 0,
                                    .out_batch = pointer(&next),
                                    .keys = pointer(scratch->keys),
                                    .values = pointer(scratch->entries),
                                    .count = 2 * CHANGES,
                                    .map_fd = (uint32_t)map_of(cache, is6),
                                }};
    int error = bpf(BPF_MAP_LOOKUP_AND_DELETE_BATCH, &attribute);

    *at = error ? 0 : next;
    return !error;
}

/* Empties the maps a bite at a time: their entries are of an epoch that is over, so nobody hits them meanwhile. */
static bool purge(struct hs_flow_cache *cache)
{
    for (int bite = 0; bite < PURGES; bite++) {
        for (int is6 = 0; is6 < 2; is6++)
            cache->purging[is6] = cache->purging[is6] && purge_some(cache, is6);
        if (!cache->purging[0] && !cache->purging[1])
            return true;
    }
    return false;
}

void hs_flow_cache_settle(struct hs_flow_cache *cache, struct hs_gateway *g)
{
    bool more = true;

    hs_offload_publish(g);
    if (g->offload.purge) { /* from the beginning, whatever was under way */
        g->offload.purge = false;
        cache->purging[0] = cache->purging[1] = true;
        cache->purged_to[0] = cache->purged_to[1] = 0;
    }
    if ((cache->purging[0] || cache->purging[1]) && !purge(cache))
        return;
    for (int i = 0; more && i < BATCHES; i++) {
        struct hs_offload_change change;

        for (int changes = 0; changes < CHANGES && (more = hs_offload_next(g, &change)); changes++)
            append(change.put ? &cache->put[change.is6] : &cache->taken[change.is6], &change);
        for (int is6 = 0; is6 < 2; is6++)
            take_out(cache, is6);
        for (int is6 = 0; is6 < 2; is6++)
            put_in(cache, g, is6);
    }
}

struct hs_cache_counters hs_flow_cache_count(const struct hs_flow_cache *cache)
{
    struct hs_cache_counters sum = {0};
    uint32_t first = 0;
    union bpf_attr attribute = {.map_fd = (uint32_t)cache->maps.counters,
                                .key = pointer(&first),
                                .value = pointer(cache->counted)};

    if (bpf(BPF_MAP_LOOKUP_ELEM, &attribute))
        return sum;
    for (uint32_t cpu = 0; cpu < cache->maps.cpus; cpu++) {
#define ADD(name) sum.name += cache->counted[cpu].name;
        HS_CACHE_COUNTERS_LIST(ADD)
#undef ADD
    }
    return sum;
}
