#include <stdlib.h>

#include "core/flow_table.h"
#include "core/limits.h"
#include "core/pages.h"

bool hs_flow_wheel_init(struct hs_flow_wheel *wheel, uint32_t capacity)
{
    wheel->seconds = malloc(HS_WHEEL_SECONDS * sizeof *wheel->seconds);
    wheel->links = hs_pages_alloc(capacity * sizeof *wheel->links);
    return wheel->seconds && wheel->links;
}

void hs_flow_wheel_free(struct hs_flow_wheel *wheel, uint32_t capacity)
{
    free(wheel->seconds);
    hs_pages_free(wheel->links, capacity * sizeof *wheel->links);
}

void hs_flow_wheel_clear(struct hs_flow_wheel *wheel)
{
    memset(wheel->seconds, 0xff, HS_WHEEL_SECONDS * sizeof *wheel->seconds);
    wheel->due = HS_NOTHING;
}

void hs_flow_wheel_insert(struct hs_flow_table *t, struct hs_flow *flow)
{
    struct hs_flow_wheel *wheel = &t->wheel;
    uint32_t slot = hs_flow_slot(t, flow), *head;

    flow->wheel_slot = (uint16_t)(flow->expires_ms / 1000 & (HS_WHEEL_SECONDS - 1));
    head = &wheel->seconds[flow->wheel_slot];
    wheel->links[slot] = (struct hs_wheel_link){*head, HS_NOTHING};
    if (*head != HS_NOTHING)
        wheel->links[*head].previous = slot;
    *head = slot;
}

/* The list that begins with the slot: the one that its flow names, unless that was corrupted. */
static uint32_t *list_of(struct hs_flow_wheel *wheel, uint32_t slot, const struct hs_flow *flow)
{
    uint32_t *named = &wheel->seconds[flow->wheel_slot & (HS_WHEEL_SECONDS - 1)];

    if (*named == slot || wheel->due == slot)
        return *named == slot ? named : &wheel->due;
    for (uint32_t second = 0; second < HS_WHEEL_SECONDS; second++)
        if (wheel->seconds[second] == slot)
            return &wheel->seconds[second];
    return &wheel->links[slot].next; /* it leads none */
}

void hs_flow_wheel_remove(struct hs_flow_table *t, struct hs_flow *flow)
{
    struct hs_flow_wheel *wheel = &t->wheel;
    uint32_t slot = hs_flow_slot(t, flow);
    struct hs_wheel_link link = wheel->links[slot];

    if (link.next != HS_NOTHING)
        wheel->links[link.next].previous = link.previous;
    if (link.previous != HS_NOTHING)
        wheel->links[link.previous].next = link.next;
    else
        *list_of(wheel, slot, flow) = link.next;
}

void hs_flow_set_expiry(struct hs_flow_table *t, struct hs_flow *flow, uint64_t expires_ms)
{
    if (expires_ms >= flow->expires_ms) {
        flow->expires_ms = expires_ms;
        return;
    }
    hs_flow_wheel_remove(t, flow);
    flow->expires_ms = expires_ms;
    hs_flow_wheel_insert(t, flow);
}

/* Takes the list of the next second that has wholly passed. False: none is left. */
static bool take_due_second(struct hs_flow_wheel *wheel, uint64_t now_second)
{
    uint32_t *head;

    /* After a long rest (a backup does not age) every list is looked at once, no more. */
    if (wheel->second + HS_WHEEL_SECONDS < now_second)
        wheel->second = now_second - HS_WHEEL_SECONDS;
    if (wheel->second >= now_second)
        return false;
    head = &wheel->seconds[wheel->second++ & (HS_WHEEL_SECONDS - 1)];
    wheel->due = *head;
    *head = HS_NOTHING;
    return true;
}

struct hs_flow *hs_flow_table_next_expired(struct hs_flow_table *t, uint64_t now_ms,
                                           uint32_t *budget)
{
    struct hs_flow_wheel *wheel = &t->wheel;

    while (*budget) {
        struct hs_flow *flow;

        if (wheel->due == HS_NOTHING) {
            if (!take_due_second(wheel, now_ms / 1000))
                return NULL;
            continue;
        }
        --*budget;
        flow = &t->flows[wheel->due];
        if (flow->expires_ms <= now_ms)
            return flow;
        hs_flow_wheel_remove(t, flow); /* it was used since it was put there */
        hs_flow_wheel_insert(t, flow);
    }
    return NULL;
}
