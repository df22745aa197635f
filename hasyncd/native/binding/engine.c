#include "binding/engine.h"

#include <errno.h>
#include <stddef.h>

/* What leaves a side: its socket, or the list that `take_sent` hands out. */
static void send_frame(void *context, int side, const struct hs_vnet *vnet, uint8_t *frame,
                       uint32_t length)
{
    struct engine *engine = context;
    PyObject *bytes;

    if (!engine->sent[side]) {
        hs_packet_io_send(engine->io, side, vnet, frame, length);
        return;
    }
    bytes = PyBytes_FromStringAndSize((const char *)frame, (Py_ssize_t)length);
    if (!bytes || PyList_Append(engine->sent[side], bytes))
        PyErr_Clear(); /* out of memory in a test: the frame is lost as on a wire */
    Py_XDECREF(bytes);
}

/* All in `new`: there is no engine without its gateway. */
static PyObject *engine_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"capacity", "seed", "log_records", "held_packets", "held_bytes", NULL};
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct engine *engine;
    unsigned int capacity, log_records = 262144, held_packets = 4096, held_bytes = 8388608;
    const char *seed;
    Py_ssize_t seed_size;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "Iy#|III", names, &capacity, &seed,
                                     &seed_size, &log_records, &held_packets, &held_bytes))
        return NULL;
    if (seed_size != 16 || capacity < 1 || capacity > HS_CAPACITY_MAX || held_packets < 1) {
        PyErr_SetString(PyExc_ValueError, "seed of 16 bytes, capacity of 1 to 8,388,608 flows");
        return NULL;
    }
    engine = (struct engine *)allocate(type, 0); /* zeroed */
    if (!engine)
        return NULL;
    engine->io = hs_packet_io_create();
    engine->gateway = hs_gateway_create(
        hs_seed_load((const uint8_t *)seed),
        (struct hs_gateway_limits){capacity, log_records, held_packets, held_bytes},
        (struct hs_output){send_frame, engine});
    if (!engine->io || !engine->gateway) {
        Py_DECREF((PyObject *)engine);
        return PyErr_NoMemory();
    }
    return (PyObject *)engine;
}

static PyObject *engine_close(PyObject *self, PyObject *unused)
{
    struct engine *engine = (struct engine *)self;

    (void)unused;
    hs_packet_io_destroy(engine->io);
    engine->io = hs_packet_io_create();
    Py_RETURN_NONE;
}

static void engine_dealloc(PyObject *self)
{
    struct engine *engine = (struct engine *)self;
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    hs_gateway_destroy(engine->gateway);
    hs_packet_io_destroy(engine->io);
    for (int side = 0; side < HS_SIDES; side++)
        Py_XDECREF(engine->sent[side]);
    release(self);
    Py_DECREF(type);
}

static int describe_port(struct engine *engine, int side, const char *mac, Py_ssize_t mac_size,
                         unsigned int mtu)
{
    if (side < 0 || side >= HS_SIDES || mac_size != 6 || mtu < 68 || mtu > 65535) {
        PyErr_SetString(PyExc_ValueError, "side 0 or 1, a MAC of 6 bytes, an MTU of 68 to 65535");
        return -1;
    }
    memcpy(engine->gateway->ports[side].mac, mac, 6);
    engine->gateway->ports[side].mtu = mtu;
    return 0;
}

static PyObject *engine_open(PyObject *self, PyObject *arguments)
{
    struct engine *engine = (struct engine *)self;
    int side, ifindex, fd;
    const char *mac;
    Py_ssize_t mac_size;
    unsigned int mtu;

    if (!PyArg_ParseTuple(arguments, "iiy#I", &side, &ifindex, &mac, &mac_size, &mtu) ||
        describe_port(engine, side, mac, mac_size, mtu))
        return NULL;
    Py_CLEAR(engine->sent[side]);
    fd = hs_packet_io_open(engine->io, side, ifindex);
    if (fd < 0) {
        errno = -fd;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(fd);
}

static PyObject *engine_attach(PyObject *self, PyObject *arguments)
{
    struct engine *engine = (struct engine *)self;
    int side;
    const char *mac;
    Py_ssize_t mac_size;
    unsigned int mtu;

    if (!PyArg_ParseTuple(arguments, "iy#I", &side, &mac, &mac_size, &mtu) ||
        describe_port(engine, side, mac, mac_size, mtu))
        return NULL;
    if (!engine->sent[side] && !(engine->sent[side] = PyList_New(0)))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *engine_set_lease(PyObject *self, PyObject *arguments)
{
    unsigned long long until_ns;

    if (!PyArg_ParseTuple(arguments, "K", &until_ns))
        return NULL;
    gateway_of(self)->lease_until_ns = until_ns;
    Py_RETURN_NONE;
}

static PyObject *engine_arm(PyObject *self, PyObject *arguments)
{
    unsigned long long now_ns;

    if (!PyArg_ParseTuple(arguments, "K", &now_ns))
        return NULL;
    hs_gateway_arm(gateway_of(self), now_ns);
    Py_RETURN_NONE;
}

static PyObject *engine_disarm(PyObject *self, PyObject *unused)
{
    (void)unused;
    hs_gateway_disarm(gateway_of(self));
    Py_RETURN_NONE;
}

static PyObject *engine_announce(PyObject *self, PyObject *unused)
{
    uint8_t scratch[2 * HS_VIPS_MAX * HS_ARP_FRAME];
    struct hs_gateway *g = gateway_of(self);

    (void)unused;
    if (!hs_gateway_armed(g, hs_boottime_ns()))
        return PyLong_FromLong(0);
    return PyLong_FromUnsignedLong(hs_gateway_announce(g, scratch));
}

static PyObject *engine_poll(PyObject *self, PyObject *arguments)
{
    struct engine *engine = (struct engine *)self;
    unsigned int budget = 256;
    int count;

    if (!PyArg_ParseTuple(arguments, "|I", &budget))
        return NULL;
    engine->calls++;
    count = hs_packet_io_poll(engine->io, engine->gateway, budget);
    if (count < 0) {
        errno = -count;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(count);
}

static PyObject *engine_tick(PyObject *self, PyObject *arguments)
{
    unsigned long long now_ns;

    if (!PyArg_ParseTuple(arguments, "K", &now_ns))
        return NULL;
    return PyLong_FromUnsignedLong(hs_gateway_tick(gateway_of(self), now_ns));
}

static PyObject *engine_inject(PyObject *self, PyObject *arguments)
{
    /* As much room behind the frame as a received one has. */
    static uint8_t room[HS_FRAME_MAX + 64];
    struct hs_vnet vnet = {0};
    int side;
    Py_buffer frame;
    unsigned long long now_ns;

    if (!PyArg_ParseTuple(arguments, "iy*K", &side, &frame, &now_ns))
        return NULL;
    if (side < 0 || side >= HS_SIDES || frame.len > HS_FRAME_MAX) {
        PyBuffer_Release(&frame);
        PyErr_SetString(PyExc_ValueError, "side 0 or 1, a frame of at most 65,549 bytes");
        return NULL;
    }
    memcpy(room, frame.buf, (size_t)frame.len);
    hs_gateway_receive(gateway_of(self), side, &vnet, room, (uint32_t)frame.len, now_ns);
    PyBuffer_Release(&frame);
    Py_RETURN_NONE;
}

static PyObject *engine_take_sent(PyObject *self, PyObject *unused)
{
    struct engine *engine = (struct engine *)self;
    PyObject *taken = PyList_New(0);

    (void)unused;
    for (int side = 0; taken && side < HS_SIDES; side++) {
        Py_ssize_t count = engine->sent[side] ? PyList_Size(engine->sent[side]) : 0;

        for (Py_ssize_t i = 0; i < count; i++) {
            PyObject *pair = Py_BuildValue("iO", side, PyList_GetItem(engine->sent[side], i));

            if (!pair || PyList_Append(taken, pair)) {
                Py_XDECREF(pair);
                Py_DECREF(taken);
                return NULL;
            }
            Py_DECREF(pair);
        }
        if (count && PyList_SetSlice(engine->sent[side], 0, count, NULL))
            return NULL;
    }
    return taken;
}

#define METHOD(name, function, flags) {name, (PyCFunction)(void (*)(void))(function), flags, NULL}

static PyMethodDef methods[] = {
    METHOD("open", engine_open, METH_VARARGS),
    METHOD("attach", engine_attach, METH_VARARGS),
    METHOD("close", engine_close, METH_NOARGS),
    METHOD("set_lease", engine_set_lease, METH_VARARGS),
    METHOD("arm", engine_arm, METH_VARARGS),
    METHOD("disarm", engine_disarm, METH_NOARGS),
    METHOD("announce", engine_announce, METH_NOARGS),
    METHOD("poll", engine_poll, METH_VARARGS),
    METHOD("tick", engine_tick, METH_VARARGS),
    METHOD("inject", engine_inject, METH_VARARGS),
    METHOD("take_sent", engine_take_sent, METH_NOARGS),
    METHOD("set_vips", hs_engine_set_vips, METH_VARARGS),
    METHOD("set_nat_rules", hs_engine_set_nat_rules, METH_VARARGS),
    METHOD("set_nat_options", hs_engine_set_nat_options, METH_VARARGS | METH_KEYWORDS),
    METHOD("set_forwards", hs_engine_set_forwards, METH_VARARGS),
    METHOD("set_service", hs_engine_set_service, METH_VARARGS),
    METHOD("publish_ring", hs_engine_publish_ring, METH_VARARGS | METH_KEYWORDS),
    METHOD("ring", hs_engine_ring, METH_VARARGS),
    METHOD("set_routes", hs_engine_set_routes, METH_VARARGS),
    METHOD("set_neighbours", hs_engine_set_neighbours, METH_VARARGS),
    METHOD("wanted_neighbours", hs_engine_wanted_neighbours, METH_NOARGS),
    METHOD("used_neighbours", hs_engine_used_neighbours, METH_NOARGS),
    METHOD("set_commit", hs_engine_set_commit, METH_VARARGS),
    METHOD("drain", hs_engine_drain, METH_VARARGS | METH_KEYWORDS),
    METHOD("emitted", hs_engine_emitted, METH_VARARGS),
    METHOD("acknowledge", hs_engine_acknowledge, METH_VARARGS),
    METHOD("rewind", hs_engine_rewind, METH_VARARGS),
    METHOD("log_state", hs_engine_log_state, METH_NOARGS),
    METHOD("start_log", hs_engine_start_log, METH_NOARGS),
    METHOD("append_snapshot", hs_engine_append_snapshot, METH_VARARGS | METH_KEYWORDS),
    METHOD("count_at_risk", hs_engine_count_at_risk, METH_NOARGS),
    METHOD("reset", hs_engine_reset, METH_VARARGS),
    METHOD("begin_sync", hs_engine_begin_sync, METH_NOARGS),
    METHOD("end_sync", hs_engine_end_sync, METH_NOARGS),
    METHOD("install", hs_engine_install, METH_VARARGS),
    METHOD("digest", hs_engine_digest, METH_NOARGS),
    METHOD("counters", hs_engine_counters, METH_NOARGS),
    METHOD("flow_counts", hs_engine_flow_counts, METH_NOARGS),
    METHOD("backend_flow_counts", hs_engine_backend_flow_counts, METH_VARARGS),
    METHOD("list_flows", hs_engine_list_flows, METH_VARARGS),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, engine_new},
    {Py_tp_dealloc, engine_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec hs_engine_spec = {
    .name = "hasyncd._native.Engine",
    .basicsize = sizeof(struct engine),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};
