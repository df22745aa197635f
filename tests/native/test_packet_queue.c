/* The queue of waiting packets: order, bounds, a frame never split, none lost or changed. */
#include "core/packet_queue.h"

#include "check.h"

static bool push(struct hs_packet_queue *q, uint8_t fill, uint32_t length)
{
    uint8_t frame[512];
    struct hs_queued packet = {.frame = frame, .length = length, .sequence = fill};

    memset(frame, fill, length);
    return hs_packet_queue_push(q, &packet);
}

/* Takes the front and says which it was; 0 when it is damaged, -1 when there is none. */
static int pop(struct hs_packet_queue *q)
{
    struct hs_queued *front = hs_packet_queue_front(q);
    int fill;

    if (!front)
        return -1;
    fill = (int)front->sequence;
    for (uint32_t i = 0; i < front->length; i++)
        if (front->frame[i] != (uint8_t)fill)
            fill = 0;
    hs_packet_queue_pop(q);
    return fill;
}

/* Commands: +fill:length, expected result; or a pop and what comes. Arena of 100 bytes, 4 packets. */
static const struct {
    int number;
    uint8_t fill;
    uint32_t length;
    int result;
} steps[] = {
    {1, 1, 40, 1}, {2, 2, 60, 1},  /* exactly full */
    {3, 3, 1, 0},                  /* no byte left */
    {4, 0, 0, 1},                  /* pop 1: 40 bytes free at the start */
    {5, 3, 41, 0}, {6, 3, 40, 1},  /* wraps, exactly */
    {7, 4, 1, 0},                  /* full again, `next` meets `first` */
    {8, 0, 0, 2}, {9, 0, 0, 3}, {10, 0, 0, -1},
    {11, 5, 100, 1}, {12, 0, 0, 5},
    {13, 6, 101, 0},               /* never fits */
    {14, 7, 10, 1}, {15, 8, 10, 1}, {16, 9, 10, 1}, {17, 10, 10, 1}, {18, 11, 10, 0}, /* 4 packets */
    {19, 0, 0, 7}, {20, 0, 0, 8}, {21, 12, 70, 0}, {22, 13, 60, 1}, {23, 14, 21, 0}, {24, 14, 20, 1},
    {25, 0, 0, 9}, {26, 0, 0, 10}, {27, 0, 0, 13}, {28, 0, 0, 14}, {29, 0, 0, -1},
};

static void check_steps(void)
{
    struct hs_packet_queue q;

    CHECK(0, hs_packet_queue_init(&q, 4, 100), true);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        CHECK(steps[i].number, steps[i].length ? push(&q, steps[i].fill, steps[i].length) : pop(&q),
              steps[i].result);
    push(&q, 1, 50);
    push(&q, 2, 50);
    hs_packet_queue_clear(&q);
    CHECK(30, q.count, 0);
    CHECK(31, push(&q, 3, 100), true);
    hs_packet_queue_free(&q);
}

/* What `retry_unresolved` does: the front is copied out, popped and pushed behind the others. */
static void check_rotation(void)
{
    struct hs_packet_queue q;
    static const uint32_t lengths[] = {30, 7, 22, 11, 25};

    CHECK(0, hs_packet_queue_init(&q, 5, 128), true);
    for (uint8_t i = 0; i < 5; i++)
        CHECK(i, push(&q, (uint8_t)(i + 1), lengths[i]), true);
    for (int round = 0; round < 400; round++) {
        struct hs_queued front = *hs_packet_queue_front(&q);

        hs_packet_queue_pop(&q);
        if (!hs_packet_queue_push(&q, &front))
            CHECK(round, q.count, 4); /* what was lost is the front alone */
        if (q.count < 3)
            break;
    }
    while (q.count)
        CHECK(q.count, pop(&q) > 0, true);
    hs_packet_queue_free(&q);
}

static void check_lone_rotation(void)
{
    struct hs_packet_queue q;

    CHECK(0, hs_packet_queue_init(&q, 2, 64), true);
    push(&q, 9, 64);
    for (int round = 0; round < 10; round++) {
        struct hs_queued front = *hs_packet_queue_front(&q);

        hs_packet_queue_pop(&q);
        CHECK(round, hs_packet_queue_push(&q, &front), true);
    }
    CHECK(1, pop(&q), 9);
    hs_packet_queue_free(&q);
}

/* Against a plain list: the same packets come out in the same order, and a refusal has a reason. */
static void check_random(void)
{
    struct hs_packet_queue q;
    uint8_t model[16];
    uint32_t first = 0, count = 0, state = 7, used = 0, lengths[16] = {0};

    hs_packet_queue_init(&q, 8, 400);
    for (int step = 0; step < 200000; step++) {
        state = state * 1664525u + 1013904223u;
        if (state >> 31) {
            uint8_t fill = (uint8_t)(step % 255 + 1);
            uint32_t length = (state >> 8) % 150 + 1;
            bool pushed = push(&q, fill, length);

            if (!pushed && count < 8 && used + length * 2 <= 400 && count == 0)
                CHECK(step, pushed, true);
            if (pushed) {
                model[(first + count) % 16] = fill;
                lengths[(first + count++) % 16] = length;
                used += length;
            }
        } else {
            CHECK(step, pop(&q), count ? model[first] : -1);
            if (count) {
                used -= lengths[first];
                first = (first + 1) % 16;
                count--;
            }
        }
    }
    hs_packet_queue_free(&q);
}

int main(void)
{
    check_steps();
    check_rotation();
    check_lone_rotation();
    check_random();
    return hs_check_result();
}
