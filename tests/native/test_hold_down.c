/* Freed tuples: held from others, not from their owner, for so long and no longer, in bounded memory. */
#include "core/hold_down.h"

#include "check.h"

static const struct hs_seed seed = {21, 22};

static struct hs_tuple tuple(uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport)
{
    return (struct hs_tuple){.src_addr = htonl(src), .dst_addr = htonl(dst), .src_port = htons(sport),
                             .dst_port = htons(dport), .proto = HS_UDP};
}

static void check_one(void)
{
    struct hs_tuple owner = tuple(0x0a000107, 5000, 0x08080808, 53), other = owner;
    struct hs_tuple reply = tuple(0x08080808, 53, 0xcb007105, 40000), free_one = reply;
    struct hs_hold_down holds;
    struct {
        const struct hs_tuple *reply, *original;
        uint32_t seconds;
        uint64_t now_s;
        uint32_t left_s;
    } table[] = {
        {&reply, &other, 120, 1000, 120},  {&reply, &other, 120, 1119, 1}, {&reply, &other, 120, 1120, 0},
        {&reply, &owner, 120, 1000, 0},    {&reply, NULL, 120, 1000, 120}, {&free_one, &other, 120, 1000, 0},
        {&reply, &other, 0, 1000, 0},      {&reply, &other, 3600, 4599, 1}, {&reply, &other, 3600, 4600, 0},
    };

    other.src_port = htons(5001);
    free_one.dst_port = htons(40001);
    CHECK(1, hs_hold_down_init(&holds, 1024), true);
    CHECK(2, hs_hold_down_left_s(&holds, seed, &reply, &other, 120, 1000), 0);
    hs_hold_down_add(&holds, seed, &reply, &owner, 1000);
    for (uint32_t i = 0; i < sizeof table / sizeof *table; i++)
        CHECK(10 + i,
              hs_hold_down_left_s(&holds, seed, table[i].reply, table[i].original, table[i].seconds,
                                  table[i].now_s),
              table[i].left_s);
    /* Freed again by another: his now, and from now on. */
    hs_hold_down_add(&holds, seed, &reply, &other, 1100);
    CHECK(3, hs_hold_down_left_s(&holds, seed, &reply, &owner, 120, 1219), 1);
    CHECK(4, hs_hold_down_left_s(&holds, seed, &reply, &other, 120, 1101), 0);
    CHECK(5, holds.forgotten, 0);
    hs_hold_down_free(&holds);
}

/* As many as there is room for are held, nearly all; beyond that the oldest are forgotten and counted. */
static void check_many(uint32_t capacity, uint32_t freed)
{
    struct hs_tuple owner = tuple(0x0a000107, 5000, 0x08080808, 53);
    struct hs_hold_down holds;
    uint32_t held = 0;

    hs_hold_down_init(&holds, capacity);
    for (uint32_t i = 0; i < freed; i++) {
        struct hs_tuple reply = tuple(0x08080000 + i / 60000, 53, 0xcb007105, (uint16_t)(i % 60000));

        hs_hold_down_add(&holds, seed, &reply, &owner, 1000 + i / 1000);
    }
    owner.src_port = htons(1);
    for (uint32_t i = 0; i < freed; i++) {
        struct hs_tuple reply = tuple(0x08080000 + i / 60000, 53, 0xcb007105, (uint16_t)(i % 60000));

        held += hs_hold_down_left_s(&holds, seed, &reply, &owner, 120, 1000 + freed / 1000) != 0;
    }
    CHECK(freed, held + holds.forgotten, freed);
    CHECK(freed, held <= capacity / 2 + HS_HOLD_WAYS, true);
    if (freed <= capacity / 8)
        CHECK(freed, holds.forgotten < freed / 50, true);
    hs_hold_down_free(&holds);
}

int main(void)
{
    check_one();
    check_many(65536, 4096);
    check_many(65536, 8192);
    check_many(8192, 20000);
    check_many(1, 10);
    return hs_check_result();
}
