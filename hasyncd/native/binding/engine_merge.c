#include "binding/engine.h"

PyObject *hs_engine_set_solo(PyObject *self, PyObject *arguments)
{
    int solo, upper;

    if (!PyArg_ParseTuple(arguments, "pp", &solo, &upper))
        return NULL;
    hs_gateway_set_solo(gateway_of(self), solo, upper ? HS_HALF_B : HS_HALF_A);
    Py_RETURN_NONE;
}

PyObject *hs_engine_start_offer(PyObject *self, PyObject *unused)
{
    (void)unused;
    hs_gateway_start_offer(gateway_of(self));
    Py_RETURN_NONE;
}

PyObject *hs_engine_next_offer(PyObject *self, PyObject *arguments)
{
    static uint8_t room[65536];
    unsigned int bytes_max;
    unsigned long long now_ns;
    uint32_t count, used;
    bool finished;

    if (!PyArg_ParseTuple(arguments, "IK", &bytes_max, &now_ns))
        return NULL;
    if (bytes_max < HS_RECORD_MAX) {
        PyErr_Format(PyExc_ValueError, "room for one record at least: %d bytes", HS_RECORD_MAX);
        return NULL;
    }
    used = hs_gateway_offer(gateway_of(self), room, bytes_max < sizeof room ? bytes_max : sizeof room,
                            now_ns, &count, &finished);
    return Py_BuildValue("Iy#N", count, (const char *)room, (Py_ssize_t)used, PyBool_FromLong(finished));
}

PyObject *hs_engine_end_offer(PyObject *self, PyObject *unused)
{
    (void)unused;
    hs_gateway_end_offer(gateway_of(self));
    Py_RETURN_NONE;
}

PyObject *hs_engine_merge(PyObject *self, PyObject *arguments)
{
    struct hs_merge_findings f = {0};
    enum hs_rejection rejection;
    unsigned long long now_ns;
    Py_buffer records;
    uint32_t count;

    if (!PyArg_ParseTuple(arguments, "y*K", &records, &now_ns))
        return NULL;
    count = hs_gateway_merge(gateway_of(self), records.buf, (uint32_t)records.len, now_ns, &f, &rejection);
    PyBuffer_Release(&records);
    return Py_BuildValue("I(IIIII)z", count, f.known, f.merged, f.collided, f.refused, f.closed,
                         rejection ? hs_rejection_name(rejection) : NULL);
}
