/* The delta log: a ring of the last records, each with its sequence (proto/sync.md §2).
 *
 * Its memory may be a file that outlives the process: proto/last_word.md says how it is read then.
 */
#ifndef HS_DELTA_LOG_H
#define HS_DELTA_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/record.h"

/* What most records need stands together: only IPv6's are longer than HS_RECORD_SHORT_MAX. */
struct hs_log_entry {
    uint64_t at_ns;  /* when it was appended */
    uint8_t at_risk; /* an ADD or a change of state, not a mere refresh */
    uint8_t record[HS_RECORD_MAX];
};

_Static_assert(sizeof(struct hs_log_entry) == 80, "the log's memory");

/* What lies before the entries. The reader's moment is `next`: stored last, after everything that it speaks of. */
struct hs_log_head {
    uint8_t magic[8];
    uint32_t layout, entry_size, capacity, record_offset, at_risk_offset;
    uint32_t active;  /* 1: this node writes the table */
    uint32_t commit;  /* enum hs_commit as it is in force: none while no peer is ready */
    uint32_t at_risk; /* flows that the peer has not confirmed, as status counts them */
    uint32_t flows;
    uint64_t acknowledged, next;
};

#define HS_LOG_MAGIC "hasynclg"
enum { HS_LOG_LAYOUT = 1, HS_LOG_HEAD = 4096 };

_Static_assert(sizeof(struct hs_log_head) <= HS_LOG_HEAD, "the head has a page");

struct hs_delta_log {
    struct hs_log_head *head;
    struct hs_log_entry *entries;
    uint32_t capacity;     /* a power of two */
    uint64_t next;         /* sequence of the record that is written next */
    uint64_t send_next;    /* sequence of the record that is sent next */
    uint64_t acknowledged; /* the peer has installed everything up to here */
    bool overrun;          /* a record was overwritten before it was acknowledged */
    bool borrowed;         /* the memory is the caller's */
};

/* Bytes of a log of at least `records` records. */
size_t hs_delta_log_bytes(uint32_t records);
/* In `memory` of that many bytes, which stay the caller's; NULL: memory of its own. False: there is none. */
bool hs_delta_log_init(struct hs_delta_log *log, uint32_t records, void *memory);
void hs_delta_log_free(struct hs_delta_log *log);

/* Room for one record; its sequence is `log->next - 1` afterwards. `hs_delta_log_tell` ends the append. */
struct hs_log_entry *hs_delta_log_append(struct hs_delta_log *log, uint64_t now_ns);
/* The head says what the log holds now, for whoever reads it after our death. */
void hs_delta_log_tell(struct hs_delta_log *log, uint32_t at_risk, uint32_t flows);

uint64_t hs_delta_log_oldest(const struct hs_delta_log *log);
const struct hs_log_entry *hs_delta_log_entry(const struct hs_delta_log *log, uint64_t sequence);

/* Copies unsent records, packed, into `out` until `room` is used up; they count as sent. */
uint32_t hs_delta_log_drain(struct hs_delta_log *log, uint8_t *out, uint32_t room, uint32_t *count);

/* Sending goes on at `sequence`, everything before it being installed. False: it is overwritten or not yet written. */
bool hs_delta_log_rewind(struct hs_delta_log *log, uint64_t sequence);

#endif
