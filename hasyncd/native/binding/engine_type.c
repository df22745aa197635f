/* The type: its methods, and which of them hold the lock.
 *
 * A method that touches the gateway runs under the lock as a whole; it is short. `poll` takes the lock for
 * each batch by itself, `tick` for each bite of ageing, `publish` for the exchange of tables; `open`, `attach`, `close` and `start_thread` come before or after all traffic.
 */
#include "binding/engine.h"

#define LOCKED_AS(name, parameters, arguments_given)                                               \
    static PyObject *locked_##name parameters                                                      \
    {                                                                                              \
        struct hs_packet_io *io = ((struct engine *)self)->io;                                     \
        PyObject *result;                                                                          \
                                                                                                   \
        hs_packet_io_lock(io);                                                                     \
        result = hs_engine_##name arguments_given;                                                 \
        hs_packet_io_unlock(io);                                                                   \
        return result;                                                                             \
    }

#define LOCKED(name) LOCKED_AS(name, (PyObject *self, PyObject *arguments), (self, arguments))

#define LOCKED_KEYWORDS(name)                                                                      \
    LOCKED_AS(name, (PyObject *self, PyObject *arguments, PyObject *keywords),                     \
              (self, arguments, keywords))

LOCKED(use_cache)
LOCKED(set_lease)
LOCKED(arm)
LOCKED(disarm)
LOCKED(hand_over)
LOCKED(announce)
LOCKED(probe_vips)
LOCKED(vip_states)
LOCKED(inject)
LOCKED(take_sent)
LOCKED(set_vips)
LOCKED(set_passes)
LOCKED(set_nat_rules)
LOCKED_KEYWORDS(set_nat_options)
LOCKED(set_forwards)
LOCKED(open_mapping_log)
LOCKED(take_mappings)
LOCKED_KEYWORDS(set_policy)
LOCKED(set_service)
LOCKED(set_balance)
LOCKED(count_moving)
LOCKED(end_backend_flows)
LOCKED(backend_counters)
LOCKED(set_rule_commit)
LOCKED(set_routes)
LOCKED(set_neighbours)
LOCKED(wanted_neighbours)
LOCKED(used_neighbours)
LOCKED(set_commit)
LOCKED_KEYWORDS(drain)
LOCKED(emitted)
LOCKED(acknowledge)
LOCKED(rewind)
LOCKED(log_state)
LOCKED(moment)
LOCKED(start_log)
LOCKED(append_snapshot)
LOCKED(count_at_risk)
LOCKED(reset)
LOCKED(bucket_digests)
LOCKED(compare_buckets)
LOCKED(start_snapshot)
LOCKED_KEYWORDS(begin_sync)
LOCKED(end_sync)
LOCKED(sync_findings)
LOCKED(set_scrub)
LOCKED(install)
LOCKED(set_solo)
LOCKED(start_offer)
LOCKED(next_offer)
LOCKED(end_offer)
LOCKED(merge)
LOCKED(digest)
LOCKED(counters)
LOCKED(flow_counts)
LOCKED(backend_flow_counts)
LOCKED(list_flows)
LOCKED(explain)

#define METHOD(name, function, flags) {name, (PyCFunction)(void (*)(void))(function), flags, NULL}

static PyMethodDef methods[] = {
    METHOD("open", hs_engine_open, METH_VARARGS),
    METHOD("attach", hs_engine_attach, METH_VARARGS),
    METHOD("close", hs_engine_close, METH_NOARGS),
    METHOD("start_thread", hs_engine_start_thread, METH_NOARGS),
    METHOD("poll", hs_engine_poll, METH_VARARGS),
    METHOD("use_cache", locked_use_cache, METH_VARARGS),
    METHOD("set_lease", locked_set_lease, METH_VARARGS),
    METHOD("arm", locked_arm, METH_VARARGS),
    METHOD("disarm", locked_disarm, METH_NOARGS),
    METHOD("hand_over", locked_hand_over, METH_VARARGS),
    METHOD("announce", locked_announce, METH_NOARGS),
    METHOD("probe_vips", locked_probe_vips, METH_NOARGS),
    METHOD("vip_states", locked_vip_states, METH_NOARGS),
    METHOD("tick", hs_engine_tick, METH_VARARGS),
    METHOD("inject", locked_inject, METH_VARARGS),
    METHOD("take_sent", locked_take_sent, METH_NOARGS),
    METHOD("set_vips", locked_set_vips, METH_VARARGS),
    METHOD("set_passes", locked_set_passes, METH_VARARGS),
    METHOD("set_nat_rules", locked_set_nat_rules, METH_VARARGS),
    METHOD("set_nat_options", locked_set_nat_options, METH_VARARGS | METH_KEYWORDS),
    METHOD("set_forwards", locked_set_forwards, METH_VARARGS),
    METHOD("open_mapping_log", locked_open_mapping_log, METH_VARARGS),
    METHOD("take_mappings", locked_take_mappings, METH_VARARGS),
    METHOD("set_policy", locked_set_policy, METH_VARARGS | METH_KEYWORDS),
    METHOD("set_service", locked_set_service, METH_VARARGS),
    METHOD("set_balance", locked_set_balance, METH_VARARGS),
    METHOD("publish", hs_engine_publish, METH_VARARGS),
    METHOD("count_moving", locked_count_moving, METH_VARARGS),
    METHOD("end_backend_flows", locked_end_backend_flows, METH_VARARGS),
    METHOD("backend_counters", locked_backend_counters, METH_VARARGS),
    METHOD("set_rule_commit", locked_set_rule_commit, METH_VARARGS),
    METHOD("set_routes", locked_set_routes, METH_VARARGS),
    METHOD("set_neighbours", locked_set_neighbours, METH_VARARGS),
    METHOD("wanted_neighbours", locked_wanted_neighbours, METH_NOARGS),
    METHOD("used_neighbours", locked_used_neighbours, METH_NOARGS),
    METHOD("set_commit", locked_set_commit, METH_VARARGS),
    METHOD("drain", locked_drain, METH_VARARGS | METH_KEYWORDS),
    METHOD("emitted", locked_emitted, METH_VARARGS),
    METHOD("acknowledge", locked_acknowledge, METH_VARARGS),
    METHOD("rewind", locked_rewind, METH_VARARGS),
    METHOD("log_state", locked_log_state, METH_NOARGS),
    METHOD("moment", locked_moment, METH_NOARGS),
    METHOD("start_log", locked_start_log, METH_VARARGS),
    METHOD("append_snapshot", locked_append_snapshot, METH_VARARGS),
    METHOD("count_at_risk", locked_count_at_risk, METH_NOARGS),
    METHOD("reset", locked_reset, METH_VARARGS),
    METHOD("bucket_digests", locked_bucket_digests, METH_VARARGS),
    METHOD("compare_buckets", locked_compare_buckets, METH_VARARGS),
    METHOD("start_snapshot", locked_start_snapshot, METH_VARARGS),
    METHOD("begin_sync", locked_begin_sync, METH_VARARGS | METH_KEYWORDS),
    METHOD("end_sync", locked_end_sync, METH_NOARGS),
    METHOD("sync_findings", locked_sync_findings, METH_NOARGS),
    METHOD("set_scrub", locked_set_scrub, METH_VARARGS),
    METHOD("install", locked_install, METH_VARARGS),
    METHOD("set_solo", locked_set_solo, METH_VARARGS),
    METHOD("start_offer", locked_start_offer, METH_NOARGS),
    METHOD("next_offer", locked_next_offer, METH_VARARGS),
    METHOD("end_offer", locked_end_offer, METH_NOARGS),
    METHOD("merge", locked_merge, METH_VARARGS),
    METHOD("digest", locked_digest, METH_NOARGS),
    METHOD("counters", locked_counters, METH_NOARGS),
    METHOD("flow_counts", locked_flow_counts, METH_NOARGS),
    METHOD("backend_flow_counts", locked_backend_flow_counts, METH_VARARGS),
    METHOD("list_flows", locked_list_flows, METH_VARARGS),
    METHOD("explain", locked_explain, METH_VARARGS),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, hs_engine_new},
    {Py_tp_dealloc, hs_engine_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec hs_engine_spec = {
    .name = "hasyncd._native.Engine",
    .basicsize = sizeof(struct engine),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};
