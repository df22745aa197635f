#include "binding/engine.h"
#include "io/flow_cache.h"

PyObject *hs_engine_use_cache(PyObject *self, PyObject *arguments)
{
    struct engine *engine = (struct engine *)self;
    struct hs_flow_cache_maps maps;
    struct hs_flow_cache *cache;
    uint32_t ifindex[HS_SIDES];

    if (!PyArg_ParseTuple(arguments, "(iiiii)I(II)", &maps.flows, &maps.flows6, &maps.uses, &maps.control,
                          &maps.counters, &maps.cpus, &ifindex[0], &ifindex[1]))
        return NULL;
    cache = hs_flow_cache_open(&maps, engine->gateway->table->capacity);
    if (!cache)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (hs_flow_cache_start(cache, engine->gateway, ifindex)) {
        hs_flow_cache_close(cache);
        return PyErr_NoMemory();
    }
    hs_packet_io_use_cache(engine->io, cache, engine->gateway);
    Py_RETURN_NONE;
}

int hs_engine_count_cache(const struct engine *engine, struct hs_counters *counters, PyObject *dict)
{
    const struct hs_flow_cache *cache = hs_packet_io_cache(engine->io);
    const struct hs_offload *o = &engine->gateway->offload;
    struct hs_cache_counters kernel = {0};
    int failed = 0;

    if (cache)
        kernel = hs_flow_cache_count(cache);
    counters->received_packets += kernel.hits;
    counters->sent_packets += kernel.hits;
    counters->received_bytes += kernel.hit_bytes;
    counters->sent_bytes += kernel.hit_bytes;
    failed = hs_set_count(dict, "cache_flows", o->cached) || hs_set_count(dict, "cache_put", o->put) ||
             hs_set_count(dict, "cache_taken_out", o->taken) || hs_set_count(dict, "cache_refused", o->refused);
#define SET(name) failed = failed || hs_set_count(dict, "cache_" #name, kernel.name);
    HS_CACHE_COUNTERS_LIST(SET)
#undef SET
    return failed;
}
