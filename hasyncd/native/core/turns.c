#include "core/turns.h"

#include <string.h>

void hs_turns_begin(struct hs_turns *turns, const struct hs_backend_table *table)
{
    memset(turns->due, 0, table->member_count * sizeof turns->due[0]);
}

static int64_t weight_of(const struct hs_backend_table *table, uint32_t position)
{
    return table->algorithm == HS_ROUND_ROBIN ? 1 : table->members[position].weight;
}

int hs_turns_next(struct hs_turns *turns, const struct hs_backend_table *table)
{
    uint32_t count = table->member_count, first = 0, best;
    int64_t sum = 0;

    if (!count)
        return -1;
    while (first < count && table->members[first].server_id <= turns->last_id)
        first++;
    best = first % count;
    for (uint32_t k = 0; k < count; k++) {
        uint32_t i = (first + k) % count;

        turns->due[i] += weight_of(table, i);
        sum += weight_of(table, i);
        if (turns->due[i] > turns->due[best])
            best = i;
    }
    turns->due[best] -= sum;
    turns->last_id = table->members[best].server_id;
    return (int)best;
}
