/* The log of NAT mappings (RFC 6888 REQ-12 to 14): finished lines of JSON, one for each mapping that was made or ended,
 * in a bounded ring that the shell empties into a file.
 *
 *     {"time":"2026-11-23T14:10:41.123Z","event":"made","protocol":"udp","inside":"10.0.1.7:5353",
 *      "public":"203.0.113.5:40001","rule":0}
 *
 * No destination, unless `destinations` says so. Lines that find no room are counted, and the next that does is
 * preceded by {"time":…,"event":"lost","lines":N}.
 */
#ifndef HS_MAPPING_LOG_H
#define HS_MAPPING_LOG_H

#include "core/flow_table.h"

struct hs_mapping_log {
    char *bytes;      /* NULL: nothing is logged */
    uint32_t size;    /* of the ring */
    uint64_t written, taken;
    uint64_t lost, lost_untold;
    int64_t clock_ns; /* what the time of day is ahead of our clock */
    bool destinations;
};

/* Begins to log into a ring of `size` bytes. False: no memory. */
bool hs_mapping_log_open(struct hs_mapping_log *log, uint32_t size, bool destinations);
void hs_mapping_log_free(struct hs_mapping_log *log);

/* A flow's mapping was made, or ended (`event`); its NAT rule is flow->rule. */
void hs_mapping_log_write(struct hs_mapping_log *log, const char *event, const struct hs_flow *flow, uint64_t now_ns);

/* Bytes that wait and lie in one piece, and where; then that so many of them were taken. */
const char *hs_mapping_log_front(const struct hs_mapping_log *log, uint32_t *length);
void hs_mapping_log_take(struct hs_mapping_log *log, uint32_t length);

#endif
