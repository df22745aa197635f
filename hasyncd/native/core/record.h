/* Packed records: proto/sync.md §3. */
#ifndef HS_RECORD_H
#define HS_RECORD_H

#include <stdint.h>

#include "core/ends6.h"
#include "core/flow_table.h"

enum hs_record_kind { HS_ADD = 1, HS_UPDATE = 2, HS_DEL = 3, HS_COUNTERS = 4, HS_ADD_BOTH = 5, HS_ADD6 = 6 };
enum hs_del_reason { HS_DEL_CLOSED = 0, HS_DEL_TIMED_OUT = 1, HS_DEL_REPLACED = 2, HS_DEL_OPERATOR = 3 };

enum hs_record_sizes {
    HS_ADD_SIZE = 32,
    HS_SHORT_SIZE = 12,
    HS_COUNTERS_SIZE = 36,
    HS_ADD_BOTH_SIZE = 40,
    HS_ADD6_SIZE = 68,
    HS_RECORD_SHORT_MAX = 40, /* every kind but HS_ADD6 */
    HS_RECORD_MAX = 68,
};

enum hs_rejection {
    HS_ACCEPTED = 0,
    HS_UNKNOWN_KIND,
    HS_RECORD_TRUNCATED,
    HS_NONZERO_PADDING,
    HS_BAD_STATE,
    HS_BAD_ADDRESS,
    HS_HANDLE_OUT_OF_RANGE,
    HS_UNKNOWN_HANDLE,
    HS_STALE_VERSION,
    HS_NO_MEMORY,
    HS_REJECTIONS,
};

/* The rejection's name on the wire page and in counters. */
const char *hs_rejection_name(enum hs_rejection rejection);

struct hs_record {
    enum hs_record_kind kind;
    uint8_t state, flags; /* DEL: state is the reason */
    uint32_t handle;
    uint16_t version, timeout_s;
    struct hs_tuple tuple[2];  /* ADD; HS_ADD6: ports and protocol only, the addresses are in `ends6` */
    struct hs_ends6 ends6;     /* HS_ADD6: of the original direction */
    struct hs_address6 reply_src6;
    uint32_t packets[2];       /* COUNTERS */
    uint64_t bytes[2];
};

/* Bytes of a record of this kind; 0 for an unknown one. */
uint32_t hs_record_size(uint8_t kind);

/* HS_ADD of a flow with both ends translated becomes HS_ADD_BOTH, that of an IPv6 flow HS_ADD6; only then are more than
 * HS_RECORD_SHORT_MAX bytes of `out` touched. */
uint32_t hs_record_pack_flow(uint8_t out[HS_RECORD_MAX], enum hs_record_kind kind,
                             const struct hs_flow_table *table, const struct hs_flow *flow,
                             uint64_t now_ms);
uint32_t hs_record_pack_del(uint8_t out[HS_RECORD_MAX], const struct hs_flow_table *table,
                            const struct hs_flow *flow, enum hs_del_reason reason);

/* The tuples of an HS_ADD6 under a seed. */
void hs_record_tuples6(const struct hs_record *record, struct hs_seed seed, struct hs_tuple tuple[2]);
/* Whether the flow is what an ADD says: all that the digest covers. */
bool hs_record_describes(const struct hs_record *record, const struct hs_flow_table *table,
                         const struct hs_flow *flow);
/* What comes out of the flow's ADD is the flow: else its memory was corrupted. */
bool hs_record_can_describe(const struct hs_flow_table *table, const struct hs_flow *flow);

/* Reads one record (HS_ADD_BOTH and HS_ADD6 as HS_ADD, the latter with tuples of HS_IPV6) from `length` bytes; on
 * success `*size` is what it took. */
enum hs_rejection hs_record_unpack(struct hs_record *record, const uint8_t *bytes, uint32_t length,
                                   uint32_t *size);

#endif
