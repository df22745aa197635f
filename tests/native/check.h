/* Numbered one-line checks. A program ends with `return hs_check_result();`. */
#ifndef HS_TESTS_CHECK_H
#define HS_TESTS_CHECK_H

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hs_checks, hs_failures;

/* One line of a table: `number` finds it, both values are shown where they differ. */
#define CHECK(number, got, want)                                                                   \
    hs_check(__FILE__, __LINE__, (int)(number), #got, (uint64_t)(got), (uint64_t)(want))

static inline void hs_check(const char *file, int line, int number, const char *what, uint64_t got,
                            uint64_t want)
{
    hs_checks++;
    if (got == want)
        return;
    hs_failures++;
    printf("%s:%d: %d: %s is %" PRIu64 " (0x%" PRIx64 "), not %" PRIu64 " (0x%" PRIx64 ")\n", file, line,
           number, what, got, got, want, want);
}

static inline int hs_check_result(void)
{
    printf("%d checks, %d failures\n", hs_checks, hs_failures);
    return hs_failures || !hs_checks;
}

/* Bytes from hex digits (blanks ignored) into `out`; how many. */
static inline uint32_t hs_hex(const char *text, uint8_t *out, uint32_t room)
{
    uint32_t count = 0;

    for (; *text; text++) {
        char pair[3] = {text[0], text[0] == ' ' ? '\0' : text[1], 0};

        if (*text == ' ')
            continue;
        if (count == room || !pair[1])
            abort();
        out[count++] = (uint8_t)strtoul(pair, NULL, 16);
        text++;
    }
    return count;
}

/* Makes the checksum of a frame's IPv4 header right, where the header is whole. */
static inline void hs_sum_header(uint8_t *frame, uint32_t length)
{
    uint32_t header = length > 14 ? (frame[14] & 15u) * 4 : 0, sum = 0;

    if (header < 20 || length < 14 + header)
        return;
    frame[24] = frame[25] = 0;
    for (uint32_t at = 14; at < 14 + header; at += 2)
        sum += (uint32_t)(frame[at] << 8 | frame[at + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16));
    frame[24] = (uint8_t)(sum >> 8);
    frame[25] = (uint8_t)sum;
}

/* "10.0.1.7" in network order. */
static inline uint32_t hs_ip(const char *text)
{
    struct in_addr address;

    if (!inet_aton(text, &address))
        abort();
    return address.s_addr;
}

#endif
