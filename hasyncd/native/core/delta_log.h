/* The delta log: a ring of the last records, each with its sequence (proto/sync.md §2). */
#ifndef HS_DELTA_LOG_H
#define HS_DELTA_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/record.h"

struct hs_log_entry {
    uint64_t at_ns; /* when it was appended */
    uint8_t record[HS_RECORD_MAX];
};

struct hs_delta_log {
    struct hs_log_entry *entries;
    uint32_t capacity;     /* a power of two */
    uint64_t next;         /* sequence of the record that is written next */
    uint64_t send_next;    /* sequence of the record that is sent next */
    uint64_t acknowledged; /* the peer has installed everything up to here */
    bool overrun;          /* a record was overwritten before it was acknowledged */
};

bool hs_delta_log_init(struct hs_delta_log *log, uint32_t capacity);
void hs_delta_log_free(struct hs_delta_log *log);

/* Room for one record; its sequence is `log->next - 1` afterwards. */
uint8_t *hs_delta_log_append(struct hs_delta_log *log, uint64_t now_ns);

uint64_t hs_delta_log_oldest(const struct hs_delta_log *log);
const struct hs_log_entry *hs_delta_log_entry(const struct hs_delta_log *log, uint64_t sequence);

/* Copies unsent records, packed, into `out` until `room` is used up; they count as sent. */
uint32_t hs_delta_log_drain(struct hs_delta_log *log, uint8_t *out, uint32_t room, uint32_t *count);

/* Sending goes on at `sequence`, everything before it being installed. False: it is overwritten or not yet written. */
bool hs_delta_log_rewind(struct hs_delta_log *log, uint64_t sequence);

#endif
