/* The consistent-hash ring: the worked example, then what must hold for every ring. */
#include "core/ring.h"

#include "check.h"

enum { A = 1, B, C, D };

static uint32_t server_of(const struct hs_ring *ring, uint32_t key)
{
    const struct hs_vnode *vnode = hs_ring_find(ring, key);

    return vnode ? vnode->server_id : 0;
}

/* Points 10 (A), 30 (C), 60 (B), 85 (A); D is inserted at 45. */
static void check_worked_example(void)
{
    const struct hs_vnode before[] = {{60, B, 1, 0}, {10, A, 1, 0}, {85, A, 1, 0}, {30, C, 1, 0}};
    const struct hs_vnode after[] = {
        {60, B, 1, 0}, {10, A, 1, 0}, {85, A, 1, 0}, {30, C, 1, 0}, {45, D, 1, 0}};
    struct hs_ring *old = hs_ring_from_vnodes(before, 4, 1), *new = hs_ring_from_vnodes(after, 5, 2);
    const struct {
        int number;
        uint32_t key, was, is;
    } keys[] = {
        {1, 7, A, A},   {2, 56, B, B},  {3, 80, A, A},  {4, 93, A, A}, /* these keep their server */
        {5, 31, B, D},  {6, 40, B, D},  {7, 45, B, D},                 /* (30, 45] moves, to D */
        {8, 30, C, C},  {9, 46, B, B},  {10, 10, A, A}, {11, 11, C, C}, {12, 0, A, A},
        {13, 86, A, A}, {14, UINT32_MAX, A, A},
    };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        CHECK(keys[i].number, server_of(old, keys[i].key), keys[i].was);
        CHECK(keys[i].number, server_of(new, keys[i].key), keys[i].is);
    }
    for (uint32_t key = 0; key < 200; key++)
        CHECK(key, server_of(old, key) != server_of(new, key), key > 30 && key <= 45);
    for (uint32_t i = 0; i < new->count; i++)
        CHECK(i, new->vnodes[i].generation, 2);
    free(old);
    free(new);
}

static void check_edges(void)
{
    const struct hs_vnode one[] = {{1000, A, 7, 0}};
    const struct hs_vnode alike[] = {{5, C, 1, 0}, {5, A, 1, 0}, {5, B, 1, 0}};
    struct hs_ring *empty = hs_ring_from_vnodes(NULL, 0, 1), *single = hs_ring_from_vnodes(one, 1, 1);
    struct hs_ring *equal = hs_ring_from_vnodes(alike, 3, 1), *built = hs_ring_build(NULL, 0, 3, 160);

    CHECK(1, hs_ring_find(empty, 5) == NULL, true);
    CHECK(2, hs_ring_find(built, 5) == NULL, true);
    CHECK(3, server_of(single, 1000), A);
    CHECK(4, server_of(single, 1001), A); /* wraps */
    CHECK(5, server_of(single, 0), A);
    CHECK(6, server_of(equal, 5), A); /* ties by server id, on every node alike */
    CHECK(7, server_of(equal, 6), A);
    free(empty);
    free(single);
    free(equal);
    free(built);
}

/* Membership and weight: keys move only to what came or grew, or away from what left. */
static void check_moves(void)
{
    struct hs_ring_server servers[] = {{1, 1}, {2, 1}, {3, 2}, {4, 1}};
    struct hs_ring *three = hs_ring_build(servers, 3, 1, 160), *four = hs_ring_build(servers, 4, 2, 160);
    struct hs_ring *heavier, *again = hs_ring_build(servers, 3, 9, 160);
    uint32_t moved = 0, share[5] = {0};

    CHECK(1, three->count, 640);
    CHECK(2, four->count, 800);
    servers[1].weight = 2;
    heavier = hs_ring_build(servers, 3, 3, 160);
    for (uint32_t i = 0; i < 40000; i++) {
        uint32_t key = i * 107374u, was = server_of(three, key), is = server_of(four, key);

        CHECK(i, was == is || is == 4, true);
        CHECK(i, server_of(heavier, key) == was || server_of(heavier, key) == 2, true);
        CHECK(i, server_of(again, key), was);
        moved += was != is;
        share[was]++;
    }
    CHECK(3, moved > 40000 / 10 && moved < 40000 * 3 / 10, true); /* a fifth, roughly */
    CHECK(4, share[3] > share[1] * 3 / 2 && share[3] < share[1] * 3, true);
    for (uint32_t i = 1; i < four->count; i++)
        CHECK(i, four->vnodes[i - 1].point <= four->vnodes[i].point, true);
    free(three);
    free(four);
    free(heavier);
    free(again);
}

/* A ring that would not fit into a u32 (or a machine) is refused, not cut short. */
static void check_too_many(void)
{
    struct hs_ring_server many[1024];

    for (uint32_t i = 0; i < 1024; i++)
        many[i] = (struct hs_ring_server){i, UINT16_MAX};
    CHECK(1, hs_ring_build(many, 1024, 1, 160) == NULL, true);
    CHECK(2, hs_ring_build(many, 410, 1, 160) == NULL, true); /* 65,535 * 160 * 410 is 2**32 and a bit */
    CHECK(3, hs_ring_build(many, 1, 1, UINT32_MAX) == NULL, true);
    CHECK(4, hs_ring_build(many, 2, 1, 1u << 31) == NULL, true);
}

int main(void)
{
    check_worked_example();
    check_edges();
    check_moves();
    check_too_many();
    return hs_check_result();
}
