/* A service with one backend, for programs that are about something else. */
#ifndef HS_ONE_BACKEND_H
#define HS_ONE_BACKEND_H

#include <stdlib.h>

#include "check.h"
#include "core/service.h"

/* `what`: where the service is and whom it allows. */
static inline void hs_serve_one(struct hs_service *service, struct hs_service what, const struct hs_backend *backend)
{
    struct hs_ring_server member = {backend->server_id, backend->weight};
    struct hs_backend_table *unused;
    struct hs_service memory;

    CHECK(1, hs_service_init(&memory), true);
    what.now = memory.now;
    what.before = memory.before;
    what.turns = memory.turns;
    what.index = memory.index;
    what.backends = memory.backends;
    *service = what;
    CHECK(2, hs_service_publish(service, backend, 1, hs_backend_table_build(HS_CONSISTENT_HASH, &member, 1, 1, 16), 0,
                                &unused), 0);
    CHECK(3, unused == NULL, true);
}

#endif
