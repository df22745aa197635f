#include <string.h>

#include "binding/engine.h"

int hs_parse_commit(const char *text, const char *nothing, enum hs_commit *commit)
{
    const char *const modes[] = {nothing, "emit", "ack"};

    for (int i = 0; i < 3; i++) {
        *commit = (enum hs_commit)i;
        if (strcmp(text, modes[i]) == 0)
            return 0;
    }
    PyErr_Format(PyExc_ValueError, "commit is %s, emit or ack", nothing);
    return -1;
}

PyObject *hs_engine_set_commit(PyObject *self, PyObject *arguments)
{
    const char *mode;
    enum hs_commit commit;
    unsigned long long timeout_ns;
    int fail_open;

    if (!PyArg_ParseTuple(arguments, "sKp", &mode, &timeout_ns, &fail_open) ||
        hs_parse_commit(mode, "none", &commit))
        return NULL;
    hs_gateway_set_commit(gateway_of(self), commit, timeout_ns, fail_open, hs_boottime_ns());
    Py_RETURN_NONE;
}

PyObject *hs_engine_drain(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"bytes_max", NULL};
    static uint8_t room[1 << 20];
    struct hs_delta_log *log = &gateway_of(self)->log;
    unsigned int bytes_max = 65536;
    unsigned long long first = log->send_next;
    uint32_t count, used;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|I", names, &bytes_max))
        return NULL;
    used = hs_delta_log_drain(log, room, bytes_max < sizeof room ? bytes_max : sizeof room, &count);
    return Py_BuildValue("KIy#", first, count, (const char *)room, (Py_ssize_t)used);
}

/* Lets go what waits for no delta any more; how many packets. A flood's new flows are released by the hundred. */
static PyObject *release(PyObject *self)
{
    struct engine *engine = (struct engine *)self;
    uint32_t released;

    hs_packet_io_gather(engine->io);
    released = hs_gateway_release(engine->gateway, hs_boottime_ns());
    hs_packet_io_flush(engine->io);
    return PyLong_FromUnsignedLong(released);
}

PyObject *hs_engine_emitted(PyObject *self, PyObject *arguments)
{
    struct hs_gateway *g = gateway_of(self);
    unsigned long long sequence;

    if (!PyArg_ParseTuple(arguments, "K", &sequence))
        return NULL;
    if (sequence > g->emitted)
        g->emitted = sequence;
    return release(self);
}

PyObject *hs_engine_acknowledge(PyObject *self, PyObject *arguments)
{
    unsigned long long sequence;

    if (!PyArg_ParseTuple(arguments, "K", &sequence))
        return NULL;
    hs_gateway_acknowledge(gateway_of(self), sequence);
    return release(self);
}

PyObject *hs_engine_rewind(PyObject *self, PyObject *arguments)
{
    unsigned long long sequence;

    if (!PyArg_ParseTuple(arguments, "K", &sequence))
        return NULL;
    return PyBool_FromLong(hs_delta_log_rewind(&gateway_of(self)->log, sequence));
}

PyObject *hs_engine_log_state(PyObject *self, PyObject *unused)
{
    const struct hs_delta_log *log = &gateway_of(self)->log;

    (void)unused;
    return Py_BuildValue("KKKN", (unsigned long long)hs_delta_log_oldest(log),
                         (unsigned long long)log->send_next, (unsigned long long)log->next,
                         PyBool_FromLong(log->overrun));
}

PyObject *hs_engine_moment(PyObject *self, PyObject *unused)
{
    const struct hs_gateway *g = gateway_of(self);

    (void)unused;
    return Py_BuildValue("KKKNIK", (unsigned long long)hs_delta_log_oldest(&g->log),
                         (unsigned long long)g->log.send_next, (unsigned long long)g->log.next,
                         PyBool_FromLong(g->log.overrun), g->table->count,
                         (unsigned long long)g->table->digest);
}

PyObject *hs_engine_start_log(PyObject *self, PyObject *arguments)
{
    struct hs_gateway *g = gateway_of(self);
    unsigned long long first;

    if (!PyArg_ParseTuple(arguments, "K", &first))
        return NULL;
    if (!hs_delta_log_rewind(&g->log, first))
        Py_RETURN_FALSE;
    g->log.acknowledged = first - 1;
    hs_delta_log_tell(&g->log, g->at_risk, g->table->count);
    Py_RETURN_TRUE;
}

PyObject *hs_engine_append_snapshot(PyObject *self, PyObject *arguments)
{
    unsigned int records_max;
    uint32_t appended;
    bool finished;

    if (!PyArg_ParseTuple(arguments, "I", &records_max))
        return NULL;
    finished = hs_gateway_append_snapshot(gateway_of(self), records_max, hs_boottime_ns(), &appended);
    return Py_BuildValue("IN", appended, PyBool_FromLong(finished));
}

PyObject *hs_engine_count_at_risk(PyObject *self, PyObject *unused)
{
    const struct hs_gateway *g = gateway_of(self);

    (void)unused;
    return Py_BuildValue("IK", g->at_risk,
                         (unsigned long long)hs_gateway_oldest_risk_ns(g, hs_boottime_ns()));
}

PyObject *hs_engine_reset(PyObject *self, PyObject *arguments)
{
    struct hs_gateway *g = gateway_of(self);
    const char *seed;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(arguments, "y#", &seed, &size))
        return NULL;
    if (size != 16) {
        PyErr_SetString(PyExc_ValueError, "a seed has 16 bytes");
        return NULL;
    }
    hs_gateway_reset(g, hs_seed_load((const uint8_t *)seed));
    Py_RETURN_NONE;
}

PyObject *hs_engine_install(PyObject *self, PyObject *arguments)
{
    enum hs_rejection rejection;
    Py_buffer records;
    unsigned long long now_ns;
    uint32_t installed;

    if (!PyArg_ParseTuple(arguments, "y*K", &records, &now_ns))
        return NULL;
    installed = hs_gateway_install(gateway_of(self), records.buf, (uint32_t)records.len, now_ns,
                                   &rejection);
    PyBuffer_Release(&records);
    return Py_BuildValue("Iz", installed, rejection ? hs_rejection_name(rejection) : NULL);
}

PyObject *hs_engine_digest(PyObject *self, PyObject *unused)
{
    const struct hs_flow_table *table = gateway_of(self)->table;

    (void)unused;
    return Py_BuildValue("IK", table->count, (unsigned long long)table->digest);
}
