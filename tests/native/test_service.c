/* Services: turns, bounded loads, the table before, and who keeps which place. */
#include "core/service.h"

#include "check.h"

enum { ROUNDS = 5 };

static struct hs_backend_table *build(enum hs_algorithm algorithm, const struct hs_ring_server *members, uint32_t count)
{
    struct hs_backend_table *table = hs_backend_table_build(algorithm, members, count, 1, 16);

    CHECK(1, table != NULL, true);
    return table;
}

static void publish(struct hs_service *service, enum hs_algorithm algorithm, const struct hs_ring_server *members,
                    uint32_t count, uint64_t grace_until_ns)
{
    struct hs_backend backends[16];
    struct hs_backend_table *unused;

    for (uint32_t i = 0; i < count; i++)
        backends[i] = (struct hs_backend){.server_id = members[i].server_id, .address = members[i].server_id,
                                          .port = 80, .weight = members[i].weight};
    CHECK(1, hs_service_publish(service, backends, count, build(algorithm, members, count), grace_until_ns, &unused), 0);
    hs_backend_table_free(unused);
}

static uint32_t selected(struct hs_service *service, uint32_t key)
{
    int backend = hs_service_select(service, key);

    return backend < 0 ? 0 : service->backends[backend].server_id;
}

/* F5: in each round of sum(weights) everybody has exactly his weight, and at no moment of it a whole turn more than his
 * share so far; also where a round begins behind whoever had the last turn. */
static void check_f5_weighted_turns(const struct hs_ring_server *members, uint32_t count)
{
    struct hs_service service;
    uint32_t sum = 0;

    CHECK(1, hs_service_init(&service), true);
    publish(&service, HS_WEIGHTED_ROUND_ROBIN, members, count, 0);
    for (uint32_t i = 0; i < count; i++)
        sum += members[i].weight;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t turns[16] = {0};

        for (uint32_t k = 0; k < sum; k++) {
            uint32_t now = selected(&service, 7);

            for (uint32_t i = 0; i < count; i++) {
                turns[i] += members[i].server_id == now;
                CHECK(k, turns[i] * sum < (k + 1) * members[i].weight + sum, true);
            }
        }
        for (uint32_t i = 0; i < count; i++)
            CHECK(i, turns[i], members[i].weight);
        if (round == 2)
            publish(&service, HS_WEIGHTED_ROUND_ROBIN, members, count, 0);
    }
    hs_service_free(&service);
}

static void check_turns(void)
{
    const struct hs_ring_server equal[] = {{1, 1}, {2, 1}, {3, 1}}, mixed[] = {{1, 5}, {2, 1}, {3, 1}, {4, 2}},
                                alone[] = {{9, 3}}, grown[] = {{1, 9}, {2, 9}, {3, 9}, {4, 9}};
    struct hs_service service;

    check_f5_weighted_turns(equal, 3);
    check_f5_weighted_turns(mixed, 4);
    check_f5_weighted_turns(alone, 1);
    CHECK(1, hs_service_init(&service), true);
    CHECK(1, selected(&service, 0), 0); /* nothing published */
    publish(&service, HS_ROUND_ROBIN, equal, 3, 0);
    CHECK(2, selected(&service, 7), 1);
    CHECK(3, selected(&service, 7), 2);
    publish(&service, HS_ROUND_ROBIN, grown, 4, 0); /* a reload does not begin with the first one again */
    for (uint32_t i = 0; i < 8; i++)
        CHECK(i, selected(&service, 7), (i + 2) % 4 + 1);
    publish(&service, HS_ROUND_ROBIN, grown, 0, 0);
    CHECK(4, selected(&service, 7), 0);
    hs_service_free(&service);
}

/* T8: nobody has more than ceil(limit x its share of all flows), and without a limit in the way it is the plain ring. */
static void check_t8_bounded_loads(void)
{
    const struct hs_ring_server members[] = {{1, 1}, {2, 1}, {3, 2}, {4, 1}};
    const uint32_t limits[] = {110, 125, 200};
    struct hs_service service;

    for (uint32_t l = 0; l < 3; l++) {
        CHECK(1, hs_service_init(&service), true);
        publish(&service, HS_CONSISTENT_HASH, members, 4, 0);
        service.load_limit_percent = limits[l];
        for (uint32_t flow = 0; flow < 5000; flow++) {
            uint32_t hot = flow % 4 ? 77 : flow * 858993u; /* three of four flows have one key */
            int backend = hs_service_select(&service, hot);
            const struct hs_backend *chosen = &service.backends[backend];
            uint64_t share = (uint64_t)limits[l] * (service.flows + 1) * chosen->weight;

            CHECK(flow, chosen->flows + 1 <= (share + 499) / 500, true);
            hs_service_add_flow(&service, (uint32_t)backend);
        }
        for (uint32_t i = 0; i < 4; i++)
            CHECK(i, service.backends[i].flows > 0, true);
        service.load_limit_percent = 100000000;
        for (uint32_t key = 0; key < 2000; key++)
            CHECK(key, hs_service_select(&service, key * 2147483u),
                  service.now->places[hs_backend_table_find(service.now->table, key * 2147483u)]);
        hs_service_free(&service);
    }
}

/* A connection under way is led to where the table before had it, while that is known and the backend is there. */
static void check_table_before(void)
{
    const struct hs_ring_server two[] = {{1, 1}, {2, 1}}, three[] = {{1, 1}, {2, 1}, {3, 9}}, others[] = {{1, 1}, {3, 9}};
    uint32_t moved = 0, gone = 0;
    struct hs_service service;

    CHECK(1, hs_service_init(&service), true);
    publish(&service, HS_MAGLEV, two, 2, 0);
    CHECK(2, hs_service_select_again(&service, 5, 0), hs_service_select(&service, 5));
    publish(&service, HS_MAGLEV, three, 3, 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t key = i * 4294967u, was = two[hs_backend_table_find(service.before->table, key)].server_id;
        int again = hs_service_select_again(&service, key, 999);

        CHECK(i, service.backends[again].server_id, was);
        CHECK(i, hs_service_select_again(&service, key, 1000), hs_service_select(&service, key));
        moved += was != selected(&service, key);
    }
    CHECK(3, moved > 600, true);
    publish(&service, HS_MAGLEV, others, 2, 2000);
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t key = i * 4294967u, was = three[hs_backend_table_find(service.before->table, key)].server_id;
        uint32_t is = service.backends[hs_service_select_again(&service, key, 1500)].server_id;

        CHECK(i, is, was == 2 ? selected(&service, key) : was);
        gone += was == 2;
    }
    CHECK(4, gone > 0, true);
    publish(&service, HS_ROUND_ROBIN, two, 2, 0);
    CHECK(5, hs_service_select_again(&service, 5, 5000), -1); /* nobody can know whose turn it was */
    hs_service_free(&service);
}

static void check_keys(void)
{
    struct hs_tuple one = {.src_addr = 1, .dst_addr = 2, .src_port = 3, .dst_port = 4, .proto = HS_TCP}, other = one;
    const struct hs_seed seed = {5, 6}, another = {7, 8};
    struct hs_service service = {.key = HS_KEY_TUPLE};

    other.src_port = 9;
    CHECK(1, hs_service_key(&service, seed, &one) == hs_service_key(&service, seed, &other), false);
    service.key = HS_KEY_SOURCE_PORT;
    CHECK(2, hs_service_key(&service, seed, &one) == hs_service_key(&service, seed, &other), false);
    service.key = HS_KEY_SOURCE;
    CHECK(3, hs_service_key(&service, seed, &one), hs_service_key(&service, seed, &other));
    CHECK(4, hs_service_key(&service, seed, &one) == hs_service_key(&service, another, &one), false);
    other.src_addr = 10;
    CHECK(5, hs_service_key(&service, seed, &one) == hs_service_key(&service, seed, &other), false);
}

/* A table with a member that is nowhere is refused, and what was published stays. */
static void check_refusals(void)
{
    const struct hs_ring_server members[] = {{1, 1}, {2, 1}};
    struct hs_backend backend = {.server_id = 1, .address = 1, .port = 80, .weight = 1};
    struct hs_backend_table *unused = NULL, *table = build(HS_MAGLEV, members, 2);
    struct hs_service service;

    CHECK(1, hs_service_init(&service), true);
    publish(&service, HS_MAGLEV, members, 1, 0);
    CHECK(2, hs_service_publish(&service, &backend, 1, table, 0, &unused), HS_NOT_LISTED);
    CHECK(3, selected(&service, 5), 1);
    hs_backend_table_free(table);
    hs_service_free(&service);
}

int main(void)
{
    check_turns();
    check_t8_bounded_loads();
    check_table_before();
    check_keys();
    check_refusals();
    return hs_check_result();
}
