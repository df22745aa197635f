#include "core/checksum.h"

uint16_t hs_checksum_sum(const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    uint64_t sum = 0;
    uint16_t word;

    for (; length >= 2; length -= 2, at += 2) {
        memcpy(&word, at, 2);
        sum += word;
    }
    if (length) {
        word = 0;
        memcpy(&word, at, 1);
        sum += word;
    }
    return hs_checksum_fold(sum);
}
