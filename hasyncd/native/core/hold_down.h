/* Hold-down: a public port that was just freed is not given to somebody else for a while (RFC 6888 REQ-8).
 *
 * A bounded memory of freed reply tuples: fingerprints in sets of four, 8 bytes each, half as many as the table has
 * flows. Where more are freed within the time than fit, the oldest of a set is forgotten, and counted.
 */
#ifndef HS_HOLD_DOWN_H
#define HS_HOLD_DOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/siphash.h"
#include "core/tuple.h"

struct hs_held_tuple {
    uint32_t fingerprint; /* of the reply tuple; 0: empty */
    uint32_t owner : 12;  /* of the private end: it may have its own port again at once */
    uint32_t since_s : 20;
};

struct hs_hold_down {
    struct hs_held_tuple *entries;
    uint32_t sets; /* of HS_HOLD_WAYS */
    uint64_t forgotten;
};

enum { HS_HOLD_WAYS = 4, HS_HOLD_USUAL_S = 120 };

bool hs_hold_down_init(struct hs_hold_down *holds, uint32_t capacity);
void hs_hold_down_free(struct hs_hold_down *holds);

/* The tuple's flow has gone. */
void hs_hold_down_add(struct hs_hold_down *holds, struct hs_seed seed, const struct hs_tuple *reply,
                      const struct hs_tuple *original, uint64_t now_s);
/* Seconds for which the reply tuple is still held, of `seconds` since it came free; 0: it is not. `original`: whose
 * flow would use it (its last owner's may at once); NULL: anybody's. */
uint32_t hs_hold_down_left_s(const struct hs_hold_down *holds, struct hs_seed seed, const struct hs_tuple *reply,
                             const struct hs_tuple *original, uint32_t seconds, uint64_t now_s);

#endif
