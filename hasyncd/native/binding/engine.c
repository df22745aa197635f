#include "binding/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>

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

/* The delta log's memory is the file's. Its blocks are taken now: a full disk must not be found out by a packet. */
static int map_log(struct engine *engine, int file, uint32_t log_records)
{
    if (file < 0)
        return 0;
    engine->log_bytes = hs_delta_log_bytes(log_records);
    errno = posix_fallocate(file, 0, (off_t)engine->log_bytes);
    if (errno)
        return -1;
    engine->log_memory = mmap(NULL, engine->log_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (engine->log_memory != MAP_FAILED)
        return 0;
    engine->log_memory = NULL;
    return -1;
}

/* All in `new`: there is no engine without its gateway. */
PyObject *hs_engine_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"capacity", "seed", "log_records", "held_packets", "held_bytes", "log_file", NULL};
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct engine *engine;
    unsigned int capacity, log_records = 262144, held_packets = 4096, held_bytes = 8388608;
    const char *seed;
    Py_ssize_t seed_size;
    int log_file = -1;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "Iy#|IIIi", names, &capacity, &seed, &seed_size,
                                     &log_records, &held_packets, &held_bytes, &log_file))
        return NULL;
    if (seed_size != 16 || capacity < 1 || capacity > HS_CAPACITY_MAX || held_packets < 1) {
        PyErr_SetString(PyExc_ValueError, "seed of 16 bytes, capacity of 1 to 8,388,608 flows");
        return NULL;
    }
    engine = (struct engine *)allocate(type, 0); /* zeroed */
    if (!engine)
        return NULL;
    if (map_log(engine, log_file, log_records)) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF((PyObject *)engine);
        return NULL;
    }
    engine->io = hs_packet_io_create();
    engine->gateway = hs_gateway_create(
        hs_seed_load((const uint8_t *)seed),
        (struct hs_gateway_limits){capacity, log_records, held_packets, held_bytes, engine->log_memory},
        (struct hs_output){send_frame, engine});
    if (!engine->io || !engine->gateway) {
        Py_DECREF((PyObject *)engine);
        return PyErr_NoMemory();
    }
    return (PyObject *)engine;
}

static void stop_thread(struct engine *engine)
{
    if (engine->thread)
        hs_packet_thread_stop(engine->thread);
    engine->thread = NULL;
}

PyObject *hs_engine_start_thread(PyObject *self, PyObject *unused)
{
    struct engine *engine = (struct engine *)self;

    (void)unused;
    for (int side = 0; side < HS_SIDES; side++) {
        if (engine->thread || hs_packet_io_descriptor(engine->io, side) < 0) {
            PyErr_SetString(PyExc_RuntimeError, "one thread, after both sides are open");
            return NULL;
        }
    }
    engine->thread = hs_packet_thread_start(engine->io, engine->gateway);
    if (!engine->thread)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong(hs_packet_thread_news(engine->thread));
}

PyObject *hs_engine_close(PyObject *self, PyObject *unused)
{
    struct engine *engine = (struct engine *)self;

    (void)unused;
    stop_thread(engine);
    hs_offload_stop(engine->gateway);
    hs_packet_io_destroy(engine->io);
    engine->io = hs_packet_io_create();
    Py_RETURN_NONE;
}

void hs_engine_dealloc(PyObject *self)
{
    struct engine *engine = (struct engine *)self;
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    stop_thread(engine);
    hs_gateway_destroy(engine->gateway);
    if (engine->log_memory)
        munmap(engine->log_memory, engine->log_bytes);
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

int hs_engine_join_groups(struct engine *engine, int side)
{
    const struct hs_rules *rules = &engine->gateway->rules;
    struct hs_address6 vips[HS_VIPS_MAX];
    uint32_t count = 0;

    if (hs_packet_io_descriptor(engine->io, side) < 0)
        return 0;
    for (uint32_t i = 0; i < rules->vip6_count; i++)
        if (rules->vips6[i].side == side)
            vips[count++] = rules->vips6[i].address;
    return hs_packet_io_join_groups(engine->io, side, vips, count);
}

PyObject *hs_engine_open(PyObject *self, PyObject *arguments)
{
    struct engine *engine = (struct engine *)self;
    int side, ifindex, fd, ring = 0, behind = 0;
    const char *mac;
    Py_ssize_t mac_size;
    unsigned int mtu;

    if (!PyArg_ParseTuple(arguments, "iiy#I|pp", &side, &ifindex, &mac, &mac_size, &mtu, &ring, &behind) ||
        describe_port(engine, side, mac, mac_size, mtu))
        return NULL;
    Py_CLEAR(engine->sent[side]);
    fd = hs_packet_io_open(engine->io, side, ifindex, ring, behind);
    errno = fd < 0 ? -fd : hs_engine_join_groups(engine, side);
    if (errno)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong(fd);
}

PyObject *hs_engine_attach(PyObject *self, PyObject *arguments)
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

PyObject *hs_engine_set_lease(PyObject *self, PyObject *arguments)
{
    unsigned long long until_ns;

    if (!PyArg_ParseTuple(arguments, "K", &until_ns))
        return NULL;
    gateway_of(self)->lease_until_ns = until_ns;
    Py_RETURN_NONE;
}

PyObject *hs_engine_arm(PyObject *self, PyObject *arguments)
{
    unsigned long long now_ns, lease_until_ns = gateway_of(self)->lease_until_ns;

    if (!PyArg_ParseTuple(arguments, "K|K", &now_ns, &lease_until_ns))
        return NULL;
    gateway_of(self)->lease_until_ns = lease_until_ns;
    hs_gateway_arm(gateway_of(self), now_ns);
    Py_RETURN_NONE;
}

PyObject *hs_engine_disarm(PyObject *self, PyObject *unused)
{
    (void)unused;
    hs_gateway_disarm(gateway_of(self));
    Py_RETURN_NONE;
}

PyObject *hs_engine_hand_over(PyObject *self, PyObject *arguments)
{
    unsigned long long relay_until_ns;

    if (!PyArg_ParseTuple(arguments, "K", &relay_until_ns))
        return NULL;
    hs_gateway_hand_over(gateway_of(self), relay_until_ns);
    Py_RETURN_NONE;
}

PyObject *hs_engine_announce(PyObject *self, PyObject *unused)
{
    uint8_t scratch[HS_ANNOUNCE_ROOM];
    struct hs_gateway *g = gateway_of(self);

    (void)unused;
    if (!hs_gateway_armed(g, hs_boottime_ns()))
        return PyLong_FromLong(0);
    return PyLong_FromUnsignedLong(hs_gateway_announce(g, scratch));
}

PyObject *hs_engine_probe_vips(PyObject *self, PyObject *unused)
{
    uint8_t scratch[HS_ANNOUNCE_ROOM];

    (void)unused;
    return PyLong_FromUnsignedLong(hs_gateway_probe(gateway_of(self), scratch));
}

PyObject *hs_engine_poll(PyObject *self, PyObject *arguments)
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

PyObject *hs_engine_tick(PyObject *self, PyObject *arguments)
{
    struct engine *engine = (struct engine *)self;
    struct hs_gateway *g = engine->gateway;
    unsigned long long now_ns;
    unsigned long aged_out = 0;
    bool more = true;

    if (!PyArg_ParseTuple(arguments, "K", &now_ns))
        return NULL;
    for (int bite = 0; more && bite < HS_AGE_BITES; bite++) {
        hs_packet_io_lock(engine->io);
        aged_out += bite ? hs_gateway_age(g, now_ns) : hs_gateway_tick(g, now_ns);
        more = hs_gateway_is_behind(g, now_ns);
        hs_packet_io_unlock(engine->io);
    }
    return PyLong_FromUnsignedLong(aged_out);
}

PyObject *hs_engine_inject(PyObject *self, PyObject *arguments)
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
        PyErr_SetString(PyExc_ValueError, "side 0 or 1, a frame of at most 65,589 bytes");
        return NULL;
    }
    memcpy(room, frame.buf, (size_t)frame.len);
    hs_gateway_receive(gateway_of(self), side, &vnet, room, (uint32_t)frame.len, now_ns);
    PyBuffer_Release(&frame);
    Py_RETURN_NONE;
}

PyObject *hs_engine_take_sent(PyObject *self, PyObject *unused)
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
