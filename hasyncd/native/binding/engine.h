/* hasyncd._native.Engine: a gateway with two packet sockets, as one Python object.
 *
 * Methods parse, call the core and wrap; hasyncd/_native.pyi documents them. One file a room:
 * engine_type.c the methods, engine.c life and packets, engine_rules.c and engine_nat.c what may pass, engine_balance.c
 * and backend_table.c backends, engine_hops.c routes and neighbours, engine_sync.c log and mirror, engine_buckets.c least
 * syncs, engine_cache.c the kernel's flow cache, engine_merge.c what follows a split, engine_view.c looking,
 * engine_explain.c why, addresses.c arguments.
 */
#ifndef HS_BINDING_ENGINE_H
#define HS_BINDING_ENGINE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core/gateway.h"
#include "io/packet_socket.h"
#include "io/packet_thread.h"

struct engine {
    PyObject_HEAD
    struct hs_gateway *gateway;
    struct hs_packet_io *io;
    struct hs_packet_thread *thread; /* NULL: the event loop polls */
    PyObject *sent[HS_SIDES]; /* lists of frames: sides made by `attach`; NULL: a socket's */
    uint64_t calls;           /* of `poll`, for the count of calls a packet */
    void *log_memory;         /* the delta log, in a file; NULL: the gateway's own */
    size_t log_bytes;
};

extern PyType_Spec hs_engine_spec;
extern PyMethodDef hs_process_methods[];
extern PyType_Spec hs_backend_table_spec;

/* The table of a BackendTable, which keeps it; NULL with an exception where `value` is none. */
struct hs_backend_table *hs_parse_backend_table(PyObject *value);
/* One holder less; the last one frees it. NULL is nothing. */
void hs_release_backend_table(struct hs_backend_table *table);

/* An address of either family, of which only one member is not zero. */
struct hs_either {
    uint8_t family;
    uint32_t v4; /* network order */
    struct hs_address6 v6;
};

struct hs_either_prefix {
    uint8_t family;
    struct hs_prefix v4;
    struct hs_prefix6 v6;
};

/* An int is an IPv4 address, 16 bytes are an IPv6 one; -1 with an exception. */
int hs_parse_either(PyObject *value, struct hs_either *address);
/* The same with a prefix length; host bits are cleared. */
int hs_parse_prefix(PyObject *value, int length, struct hs_either_prefix *prefix);
/* -1 with an exception where it is neither 0 nor 1. */
int hs_check_side(int side);
/* "emit" and "ack", and `nothing` for HS_COMMIT_NONE; -1 with an exception. */
int hs_parse_commit(const char *text, const char *nothing, enum hs_commit *commit);
PyObject *hs_wrap_address(uint32_t address);
PyObject *hs_wrap_address6(const struct hs_address6 *address);
/* Sets a Python exception and returns -1 where `value` is no IPv4 address; network order otherwise. */
int hs_parse_address(PyObject *value, uint32_t *address);
/* One item of a sequence, taken apart by a format; -1 with an exception. */
int hs_parse_item(PyObject *sequence, Py_ssize_t index, const char *format, ...);
/* The length of a sequence, or -1 with an exception where it is more than `maximum`. */
Py_ssize_t hs_checked_size(PyObject *sequence, Py_ssize_t maximum, const char *what);
/* A sequence of (prefix, prefix_length), all of one family. */
int hs_parse_prefixes(PyObject *value, struct hs_prefixes *prefixes);
int hs_parse_prefixes6(PyObject *value, struct hs_prefixes6 *prefixes);
/* The side's socket, if there is one, hears solicitations for its IPv6 VIPs; an errno where it cannot. */
int hs_engine_join_groups(struct engine *engine, int side);

/* -1 with an exception where an IPv6 address is nobody's beyond its link. */
int hs_check_forwardable(const struct hs_address6 *address);

PyObject *hs_engine_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords);
void hs_engine_dealloc(PyObject *self);
PyObject *hs_engine_open(PyObject *self, PyObject *arguments);
PyObject *hs_engine_attach(PyObject *self, PyObject *arguments);
PyObject *hs_engine_close(PyObject *self, PyObject *unused);
PyObject *hs_engine_start_thread(PyObject *self, PyObject *unused);
PyObject *hs_engine_poll(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_lease(PyObject *self, PyObject *arguments);
PyObject *hs_engine_arm(PyObject *self, PyObject *arguments);
PyObject *hs_engine_disarm(PyObject *self, PyObject *unused);
PyObject *hs_engine_hand_over(PyObject *self, PyObject *arguments);
PyObject *hs_engine_announce(PyObject *self, PyObject *unused);
PyObject *hs_engine_tick(PyObject *self, PyObject *arguments);
PyObject *hs_engine_inject(PyObject *self, PyObject *arguments);
PyObject *hs_engine_take_sent(PyObject *self, PyObject *unused);

PyObject *hs_engine_set_vips(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_passes(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_nat_rules(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_nat_options(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *hs_engine_open_mapping_log(PyObject *self, PyObject *arguments);
PyObject *hs_engine_take_mappings(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_policy(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *hs_engine_set_forwards(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_service(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_balance(PyObject *self, PyObject *arguments);
PyObject *hs_engine_publish(PyObject *self, PyObject *arguments);
PyObject *hs_engine_count_moving(PyObject *self, PyObject *arguments);
PyObject *hs_engine_end_backend_flows(PyObject *self, PyObject *arguments);
PyObject *hs_engine_backend_counters(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_rule_commit(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_routes(PyObject *self, PyObject *arguments);
PyObject *hs_engine_set_neighbours(PyObject *self, PyObject *arguments);
PyObject *hs_engine_wanted_neighbours(PyObject *self, PyObject *unused);
PyObject *hs_engine_used_neighbours(PyObject *self, PyObject *unused);

PyObject *hs_engine_set_commit(PyObject *self, PyObject *arguments);
PyObject *hs_engine_drain(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *hs_engine_emitted(PyObject *self, PyObject *arguments);
PyObject *hs_engine_acknowledge(PyObject *self, PyObject *arguments);
PyObject *hs_engine_rewind(PyObject *self, PyObject *arguments);
PyObject *hs_engine_log_state(PyObject *self, PyObject *unused);
PyObject *hs_engine_moment(PyObject *self, PyObject *unused);
PyObject *hs_engine_start_log(PyObject *self, PyObject *arguments);
PyObject *hs_engine_append_snapshot(PyObject *self, PyObject *arguments);
PyObject *hs_engine_count_at_risk(PyObject *self, PyObject *unused);
PyObject *hs_engine_reset(PyObject *self, PyObject *arguments);
PyObject *hs_engine_install(PyObject *self, PyObject *arguments);
PyObject *hs_engine_digest(PyObject *self, PyObject *unused);

PyObject *hs_engine_bucket_digests(PyObject *self, PyObject *arguments);
PyObject *hs_engine_compare_buckets(PyObject *self, PyObject *arguments);
PyObject *hs_engine_start_snapshot(PyObject *self, PyObject *arguments);
PyObject *hs_engine_begin_sync(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *hs_engine_end_sync(PyObject *self, PyObject *unused);
PyObject *hs_engine_sync_findings(PyObject *self, PyObject *unused);
PyObject *hs_engine_set_scrub(PyObject *self, PyObject *arguments);

PyObject *hs_engine_set_solo(PyObject *self, PyObject *arguments);
PyObject *hs_engine_start_offer(PyObject *self, PyObject *unused);
PyObject *hs_engine_next_offer(PyObject *self, PyObject *arguments);
PyObject *hs_engine_end_offer(PyObject *self, PyObject *unused);
PyObject *hs_engine_merge(PyObject *self, PyObject *arguments);

PyObject *hs_engine_use_cache(PyObject *self, PyObject *arguments);
/* What the kernel forwarded is the gateway's too; and counters of the cache alone. Not 0 with an exception. */
int hs_engine_count_cache(const struct engine *engine, struct hs_counters *counters, PyObject *dict);
int hs_set_count(PyObject *dict, const char *name, uint64_t value);

PyObject *hs_engine_probe_vips(PyObject *self, PyObject *unused);
PyObject *hs_engine_vip_states(PyObject *self, PyObject *unused);
PyObject *hs_engine_counters(PyObject *self, PyObject *unused);
PyObject *hs_engine_flow_counts(PyObject *self, PyObject *unused);
PyObject *hs_engine_backend_flow_counts(PyObject *self, PyObject *arguments);
PyObject *hs_engine_list_flows(PyObject *self, PyObject *arguments);
PyObject *hs_engine_explain(PyObject *self, PyObject *arguments);

static inline struct hs_gateway *gateway_of(PyObject *self)
{
    return ((struct engine *)self)->gateway;
}

#endif
