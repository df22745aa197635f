#include "binding/engine.h"

static void put64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (56 - 8 * i));
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

/* Of a primary's table that we can mirror; 0 with an exception. */
static uint32_t check_capacity(const struct hs_gateway *g, unsigned long long capacity)
{
    if (capacity >= 1 && capacity <= g->table->capacity)
        return (uint32_t)capacity;
    PyErr_Format(PyExc_ValueError, "a capacity of 1 to %u slots", g->table->capacity);
    return 0;
}

static int parse_suspects(struct hs_suspects *suspects, uint32_t capacity, const char *bits, Py_ssize_t size)
{
    if (hs_suspects_load(suspects, capacity, (const uint8_t *)bits, (size_t)size))
        return 0;
    PyErr_Format(PyExc_ValueError, "suspects: nothing, or a bit for each of %u buckets", hs_bucket_count(capacity));
    return -1;
}

PyObject *hs_engine_bucket_digests(PyObject *self, PyObject *arguments)
{
    struct hs_gateway *g = gateway_of(self);
    unsigned long long asked;
    uint32_t capacity, slots, count;
    PyObject *digests;

    if (!PyArg_ParseTuple(arguments, "K", &asked) || !(capacity = check_capacity(g, asked)))
        return NULL;
    if (!g->active && g->scrub.seconds)
        hs_gateway_recount_all(g, hs_boottime_ns());
    slots = hs_bucket_slots(capacity);
    count = hs_bucket_count(capacity);
    digests = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)count * 8);
    for (uint32_t i = 0; digests && i < count; i++)
        put64((uint8_t *)PyBytes_AsString(digests) + i * 8, hs_bucket_digest(g->table, i * slots, slots));
    return digests;
}

PyObject *hs_engine_compare_buckets(PyObject *self, PyObject *arguments)
{
    const struct hs_gateway *g = gateway_of(self);
    uint32_t slots = hs_bucket_slots(g->table->capacity), count = hs_bucket_count(g->table->capacity);
    uint8_t suspects[HS_BUCKETS_MAX / 8] = {0};
    const char *digests;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(arguments, "y#", &digests, &size))
        return NULL;
    if (size != (Py_ssize_t)count * 8)
        return PyErr_Format(PyExc_ValueError, "a digest for each of %u buckets", count);
    for (uint32_t i = 0; i < count; i++)
        if (get64((const uint8_t *)digests + i * 8) != hs_bucket_digest(g->table, i * slots, slots))
            suspects[i / 8] |= (uint8_t)(1 << i % 8);
    return Py_BuildValue("y#KI", suspects, (Py_ssize_t)(count + 7) / 8, (unsigned long long)g->log.next - 1,
                         g->table->count);
}

PyObject *hs_engine_start_snapshot(PyObject *self, PyObject *arguments)
{
    struct hs_gateway *g = gateway_of(self);
    struct hs_suspects suspects;
    const char *bits;
    Py_ssize_t size;
    int refresh;

    if (!PyArg_ParseTuple(arguments, "y#p", &bits, &size, &refresh) ||
        parse_suspects(&suspects, g->table->capacity, bits, size))
        return NULL;
    hs_gateway_start_snapshot(g, &suspects, refresh);
    Py_RETURN_NONE;
}

PyObject *hs_engine_begin_sync(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"suspects", "capacity", NULL};
    struct hs_gateway *g = gateway_of(self);
    struct hs_suspects suspects;
    const char *bits = "";
    Py_ssize_t size = 0;
    PyObject *given = Py_None;
    unsigned long long asked = g->table->capacity;
    uint32_t capacity;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|y#O", names, &bits, &size, &given))
        return NULL;
    if (given != Py_None)
        asked = PyLong_AsUnsignedLongLong(given);
    if (PyErr_Occurred() || !(capacity = check_capacity(g, asked)) || parse_suspects(&suspects, capacity, bits, size))
        return NULL;
    hs_gateway_begin_sync(g, &suspects);
    Py_RETURN_NONE;
}

PyObject *hs_engine_end_sync(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(hs_gateway_end_sync(gateway_of(self)));
}

PyObject *hs_engine_sync_findings(PyObject *self, PyObject *unused)
{
    const struct hs_sync *sync = &gateway_of(self)->sync;

    (void)unused;
    return Py_BuildValue("IIII", sync->added, sync->replaced, sync->removed, sync->unchanged);
}

PyObject *hs_engine_set_scrub(PyObject *self, PyObject *arguments)
{
    unsigned int seconds;

    if (!PyArg_ParseTuple(arguments, "I", &seconds))
        return NULL;
    gateway_of(self)->scrub.seconds = seconds;
    Py_RETURN_NONE;
}
