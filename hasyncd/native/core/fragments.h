/* Which flow the later fragments of a packet belong to: they carry no ports (RFC 4787 REQ-14).
 *
 * A bounded cache keyed by (source, destination, identification, protocol, side), filled by first fragments. Later ones
 * that come before their first wait for it, in a queue that is bounded in count, bytes and time. IPv6's key has no
 * protocol: only the first fragment's word about it counts (RFC 8200 §4.5).
 */
#ifndef HS_FRAGMENTS_H
#define HS_FRAGMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/packet.h"
#include "core/packet_queue.h"
#include "core/siphash.h"

enum { HS_FRAGMENT_SETS = 256, HS_FRAGMENT_WAYS = 4, HS_FRAGMENTS_WAITING = 64, HS_FRAGMENT_BYTES = 256 << 10 };

struct hs_fragmented {
    uint64_t key; /* 0: empty */
    uint64_t until_ms;
    uint32_t slot; /* the flow, if it still lives under this version */
    uint16_t version;
    uint8_t direction;
    bool overlapped;      /* IPv6: nothing of the packet may pass any more (RFC 5722) */
    uint16_t first_bytes; /* IPv6: where the first fragment ends */
};

enum { HS_FRAGMENT_DONE_WITH = 0 }; /* no key is 0 */

struct hs_fragments {
    struct hs_fragmented (*sets)[HS_FRAGMENT_WAYS];
    struct hs_packet_queue waiting; /* `sequence` is the key or HS_FRAGMENT_DONE_WITH, `side` where it came in */
};

bool hs_fragments_init(struct hs_fragments *fragments);
void hs_fragments_free(struct hs_fragments *fragments);
void hs_fragments_clear(struct hs_fragments *fragments);

uint64_t hs_fragments_key(struct hs_seed seed, int side, const struct hs_packet *p);
struct hs_fragmented *hs_fragments_find(const struct hs_fragments *fragments, uint64_t key, uint64_t now_ms);
/* The entry for a key, the one that ends first given up for it. */
struct hs_fragmented *hs_fragments_put(struct hs_fragments *fragments, uint64_t key, uint64_t now_ms);

#endif
