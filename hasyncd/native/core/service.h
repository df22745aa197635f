/* A service: a VIP and port whose flows are balanced over backends.
 *
 * Its flows find their backend in the flow table; the backend table (core/backend_table.h) is asked with the first
 * packet alone. A new table is published whole: one pointer changes, and the old one stays for a while, so that a
 * connection under way whose flow is not known is led to where it was.
 */
#ifndef HS_SERVICE_H
#define HS_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/address6.h"
#include "core/backend_table.h"
#include "core/limits.h"
#include "core/prefixes.h"
#include "core/tuple.h"
#include "core/turns.h"

/* What must have happened to a flow's ADD before its first packets leave (proto/sync.md §6). Of a rule, NONE: what the
 * pair has. */
enum hs_commit { HS_COMMIT_NONE, HS_COMMIT_EMIT, HS_COMMIT_ACK };

/* What of a flow decides on its backend. */
enum hs_balance_key { HS_KEY_TUPLE, HS_KEY_SOURCE, HS_KEY_SOURCE_PORT };

/* What a backend is there for. Numbers of the binding. */
enum hs_backend_state {
    HS_BACKEND_UP,       /* new flows, by the table */
    HS_BACKEND_DRAINING, /* keeps the flows that it has, and gets no new ones */
    HS_BACKEND_DOWN,     /* the same to a packet, but nobody is led back to it; in a table all the same: taken for up */
    HS_BACKEND_REMOVED,  /* given up: no packet goes there, its flows are for hs_gateway_end_backend_flows. Whoever wants
                          * to keep them lists it as draining */
    HS_BACKEND_FOREIGN,  /* not listed here, but the peer led flows there since: treated as draining. Its id is 0 where
                          * it never was */
};

/* What a backend did since it has its place and its id. They only grow. */
struct hs_backend_counts {
    uint64_t new_flows; /* made here, not told by a peer */
    uint64_t packets, bytes; /* of IP, both directions */
    uint64_t syn_unanswered; /* flows whose SYN came again, or aged out, before anything came back: once each */
    uint64_t resets; /* believed ones, by the backend */
    uint64_t refused; /* of these, in answer to a SYN */
};

struct hs_backend {
    uint32_t server_id, address;
    uint16_t port, weight;
    uint8_t state; /* enum hs_backend_state */
    bool in_table; /* of now */
    uint32_t flows;
    struct hs_address6 address6; /* of an IPv6 service; `address` is 0 then */
    struct hs_backend_counts counts;
};

/* New flows may go there, and a SYN of one that is there does not look for another. */
static inline bool hs_backend_is_up(const struct hs_backend *backend)
{
    return backend->state == HS_BACKEND_UP || (backend->state == HS_BACKEND_DOWN && backend->in_table);
}

/* A published table, and where its members stand in the service's list of backends. */
struct hs_published {
    struct hs_backend_table *table; /* NULL: none */
    uint16_t places[HS_BACKENDS_MAX];
};

struct hs_service {
    uint32_t vip;
    uint16_t port; /* network order */
    uint8_t proto;
    struct hs_prefixes allow;
    struct hs_published *now, *before; /* generation g, and g - 1 until `before_until_ns` */
    uint64_t before_until_ns;
    struct hs_turns *turns;
    enum hs_balance_key key;
    uint32_t load_limit_percent; /* of a backend's fair share of the flows, on the ring; 0: no limit */
    uint32_t backend_count;
    struct hs_backend *backends; /* HS_BACKENDS_MAX places; one that left keeps its own while it has flows */
    uint16_t *index;             /* HS_PLACE_SLOTS, core/places.c: place + 1 by address, 0: none */
    uint32_t flows;              /* of all its backends */
    bool refuses;                /* senders are told where there is no backend; else silence */
    uint8_t family;              /* enum hs_family; IPv6: `vip` and `allow` are empty, these are in their place */
    struct hs_address6 vip6;
    struct hs_prefixes6 allow6;
    enum hs_commit commit;
};

/* Memory for an empty service; false: none. */
bool hs_service_init(struct hs_service *service);
void hs_service_free(struct hs_service *service);

/* --- places.c: where backends stand -------------------------------------------------------- */

/* Position of a backend in its service's list by its address and port (nothing else is looked at), or -1. */
int hs_service_find_backend(const struct hs_service *service, const struct hs_backend *backend);

/* The same for the flow of a peer; one that is nowhere, or was removed, is HS_BACKEND_FOREIGN then. -1: every place is
 * taken. */
int hs_service_adopt(struct hs_service *service, const struct hs_backend *backend);

enum hs_publish_result {
    HS_PUBLISHED,
    HS_NO_PLACES,     /* more backends, those that left and have flows included, than HS_BACKENDS_MAX */
    HS_LISTED_TWICE,  /* an id or an address */
    HS_NOT_LISTED,    /* a member of the table */
    HS_DRAINING_USED, /* a member of the table */
};

/* Gives every row a place, and `places` those of the table's members. Others are HS_BACKEND_REMOVED from here on. Where
 * it fails nothing has changed. */
enum hs_publish_result hs_service_place_backends(struct hs_service *service, const struct hs_backend *rows,
                                                 uint32_t count, const struct hs_backend_table *table,
                                                 uint16_t *places);

/* --- service.c ----------------------------------------------------------------------------- */

/* Makes `table` the service's own (its caller gives away one reference); its members are among `rows`. The one that it
 * replaces answers for connections under way until `grace_until_ns`. The table that is no longer needed is put into
 * `unused` (or NULL). Where it fails nothing has changed. */
enum hs_publish_result hs_service_publish(struct hs_service *service, const struct hs_backend *rows, uint32_t count,
                                          struct hs_backend_table *table, uint64_t grace_until_ns,
                                          struct hs_backend_table **unused);

/* A flow's key, from its original tuple. */
uint32_t hs_service_key(const struct hs_service *service, struct hs_seed seed, const struct hs_tuple *original);

/* The backend for the first packet of a flow with this key, or -1 where there is none. */
int hs_service_select(struct hs_service *service, uint32_t key);

/* The backend for a packet from the middle of a connection whose flow is not known: that of the table before, while it
 * counts and the backend is still there. -1 where no table could know: those that go in turn. */
int hs_service_select_again(struct hs_service *service, uint32_t key, uint64_t now_ns);

/* A flow of a backend begins and ends. */
void hs_service_add_flow(struct hs_service *service, uint32_t backend);
void hs_service_remove_flow(struct hs_service *service, uint32_t backend);
/* The table was emptied. */
void hs_service_forget_flows(struct hs_service *service);

#endif
