/* T10: keys of flows spread evenly over backends whatever clients look like, and nobody can aim without the seed. */
#include <stdlib.h>

#include "check.h"
#include "core/service.h"

enum { FLOWS = 1000000, BACKENDS = 1000, FEW = 32 };

/* Five standard deviations over the mean of a chi-square distribution of n degrees of freedom (mean n, variance 2n), in
 * tenths; `root` is the square root of 2n, rounded up. */
static uint64_t bound(uint64_t n, uint64_t root)
{
    return 10 * (n + 5 * root);
}

/* Chi-square of `counts` beside an even spread, in tenths. */
static uint64_t chi_square(const uint32_t *counts, uint32_t cells, uint32_t total)
{
    uint64_t squares = 0;

    for (uint32_t i = 0; i < cells; i++)
        squares += (uint64_t)counts[i] * counts[i];
    return squares * cells * 10 / total - (uint64_t)total * 10;
}

/* The populations that balancers meet: one network's clients, ports that count up, one address behind a NAT, many
 * addresses that all come from one port. */
static struct hs_tuple client(int population, uint32_t i)
{
    struct hs_tuple t = {.src_addr = htonl(0xc6336400), .dst_addr = htonl(0xcb007105), .dst_port = htons(80),
                         .proto = HS_TCP};

    switch (population) {
    case 0:
        t.src_addr = htonl(0x0a000000 + i);
        t.src_port = htons(1024);
        break;
    case 1:
        t.src_addr = htonl(0xc6336400 + i / 64512);
        t.src_port = htons((uint16_t)(1024 + i % 64512));
        break;
    case 2:
        t.src_addr = htonl(0xc6336400 + i % 1000);
        t.src_port = htons((uint16_t)(1024 + i / 1000));
        break;
    default:
        t.src_addr = htonl((i & 0xfff) << 20 | i >> 12); /* strides of whole networks */
        t.src_port = htons((uint16_t)(i << 4));
    }
    return t;
}

static uint32_t cell(uint32_t key, uint32_t cells)
{
    return (uint32_t)((uint64_t)key * cells >> 32);
}

static void check_t10_keys_spread_evenly(void)
{
    const struct hs_service service = {.key = HS_KEY_TUPLE};
    const struct hs_seed seed = {0x0123456789abcdef, 0xfedcba9876543210};
    uint32_t *counts = calloc(BACKENDS, sizeof *counts);

    for (int population = 0; population < 4; population++) {
        memset(counts, 0, BACKENDS * sizeof *counts);
        for (uint32_t i = 0; i < FLOWS; i++) {
            struct hs_tuple t = client(population, i);

            counts[cell(hs_service_key(&service, seed, &t), BACKENDS)]++;
        }
        CHECK(population, chi_square(counts, BACKENDS, FLOWS) <= bound(BACKENDS - 1, 45), true);
    }
    free(counts);
}

/* Where a flow is under one seed says nothing about where it is under another: all pairs are equally frequent. */
static void check_t10_without_the_seed_nobody_aims(void)
{
    const struct hs_service service = {.key = HS_KEY_SOURCE};
    const struct hs_seed one = {1, 2}, another = {1, 3};
    uint32_t *counts = calloc(FEW * FEW, sizeof *counts), same = 0;

    for (uint32_t i = 0; i < FLOWS; i++) {
        struct hs_tuple t = client(0, i);
        uint32_t a = hs_service_key(&service, one, &t), b = hs_service_key(&service, another, &t);

        counts[cell(a, FEW) * FEW + cell(b, FEW)]++;
        same += a == b;
    }
    CHECK(1, chi_square(counts, FEW * FEW, FLOWS) <= bound(FEW * FEW - 1, 46), true);
    CHECK(2, same <= 2, true);
    free(counts);
}

int main(void)
{
    check_t10_keys_spread_evenly();
    check_t10_without_the_seed_nobody_aims();
    return hs_check_result();
}
