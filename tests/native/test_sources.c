/* The hash of sources beside a plain array, under random additions and removals. */
#include "core/sources.h"

#include "check.h"

enum { ADDRESSES = 200 };

static const struct hs_seed seed = {31, 32};

static uint32_t address_of(uint32_t i)
{
    return htonl(0x0a000001 + i);
}

static void check_against_array(uint32_t capacity, uint32_t steps)
{
    uint32_t model[ADDRESSES] = {0}, random = 12345, present = 0;
    struct hs_sources sources;

    CHECK(1, hs_sources_init(&sources, capacity), true);
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t i = (random = random * 1664525 + 1013904223) >> 16, which = i % ADDRESSES;
        struct hs_source *source;

        if (i & 0x4000 && model[which]) {
            source = hs_sources_find(&sources, seed, address_of(which));
            CHECK(step, source->flows, model[which]);
            source->flows--;
            present -= !--model[which];
            hs_sources_settle(&sources, seed, source);
        } else if ((source = hs_sources_get(&sources, seed, address_of(which)))) {
            source->flows++;
            present += !model[which]++;
        } else {
            CHECK(step, hs_sources_are_full(&sources), true);
        }
        CHECK(step, sources.used, present);
        for (uint32_t k = 0; k < ADDRESSES; k++) {
            source = hs_sources_find(&sources, seed, address_of(k));
            if (model[k] != (source ? source->flows : 0))
                CHECK(k, source ? source->flows : 0, model[k]);
        }
    }
    hs_sources_clear(&sources);
    CHECK(2, hs_sources_find(&sources, seed, address_of(1)) == NULL, true);
    hs_sources_free(&sources);
}

int main(void)
{
    struct hs_sources sources;

    check_against_array(1024, 3000); /* 256 slots: nearly full */
    check_against_array(8, 3000);    /* 64 slots: too few */
    hs_sources_init(&sources, 64);
    CHECK(1, hs_sources_get(&sources, seed, 0) == NULL, true); /* 0.0.0.0 is nobody */
    CHECK(2, hs_sources_find(&sources, seed, 0) == NULL, true);
    hs_sources_free(&sources);
    return hs_check_result();
}
