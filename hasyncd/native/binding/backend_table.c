/* hasyncd._native.BackendTable: an immutable table, built without the interpreter's lock. */
#include "binding/engine.h"

static const char *const algorithms[HS_ALGORITHMS] = {
    [HS_CONSISTENT_HASH] = "consistent-hash", [HS_MAGLEV] = "maglev",
    [HS_ECMP] = "ecmp",                       [HS_ROUND_ROBIN] = "round-robin",
    [HS_WEIGHTED_ROUND_ROBIN] = "weighted-round-robin",
};

struct wrapped {
    PyObject_HEAD
    struct hs_backend_table *table;
};

static struct hs_backend_table *table_of(PyObject *self)
{
    return ((struct wrapped *)self)->table;
}

void hs_release_backend_table(struct hs_backend_table *table)
{
    if (table && !--table->references)
        hs_backend_table_free(table);
}

static int parse_algorithm(const char *name)
{
    for (int i = 0; i < HS_ALGORITHMS; i++)
        if (strcmp(name, algorithms[i]) == 0)
            return i;
    PyErr_SetString(PyExc_ValueError, "no such algorithm");
    return -1;
}

static PyObject *table_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"algorithm", "members", "generation", "vnodes", NULL};
    unsigned int generation, vnodes = HS_VNODES_PER_WEIGHT;
    struct hs_ring_server *members;
    struct hs_backend_table *table;
    PyObject *list;
    struct wrapped *self;
    int algorithm;
    const char *name;
    Py_ssize_t count;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "sOI|I", names, &name, &list, &generation, &vnodes) ||
        (algorithm = parse_algorithm(name)) < 0 ||
        (count = hs_checked_size(list, HS_BACKENDS_MAX, "members")) < 0)
        return NULL;
    members = PyMem_Calloc((size_t)count + 1, sizeof *members);
    if (!members)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        if (hs_parse_item(list, i, "IH", &members[i].server_id, &members[i].weight)) {
            PyMem_Free(members);
            return NULL;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    table = hs_backend_table_build((enum hs_algorithm)algorithm, members, (uint32_t)count, generation, vnodes);
    Py_END_ALLOW_THREADS
    PyMem_Free(members);
    if (!table) {
        PyErr_SetString(PyExc_ValueError, "one member with two weights, or more vnodes than a ring can hold, or none");
        return NULL;
    }
    self = (struct wrapped *)PyType_GenericAlloc(type, 0);
    if (self)
        self->table = table;
    else
        hs_release_backend_table(table);
    return (PyObject *)self;
}

static void table_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    hs_release_backend_table(table_of(self));
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

struct hs_backend_table *hs_parse_backend_table(PyObject *value)
{
    /* The type has no subclasses, so that its destructor tells it from all others. */
    if (PyType_GetSlot(Py_TYPE(value), Py_tp_dealloc) == (void *)table_dealloc)
        return table_of(value);
    PyErr_SetString(PyExc_TypeError, "a BackendTable");
    return NULL;
}

static PyObject *get_algorithm(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(algorithms[table_of(self)->algorithm]);
}

static PyObject *get_generation(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(table_of(self)->generation);
}

static PyObject *get_digest(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(table_of(self)->digest);
}

static PyGetSetDef attributes[] = {
    {"algorithm", get_algorithm, NULL, NULL, NULL},
    {"generation", get_generation, NULL, NULL, NULL},
    {"digest", get_digest, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyObject *table_find(PyObject *self, PyObject *arguments)
{
    const struct hs_backend_table *table = table_of(self);
    unsigned int hash;
    int member;

    if (!PyArg_ParseTuple(arguments, "I", &hash))
        return NULL;
    member = hs_backend_table_find(table, hash);
    if (member < 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(table->members[member].server_id);
}

static PyObject *table_shares(PyObject *self, PyObject *unused)
{
    const struct hs_backend_table *table = table_of(self);
    uint64_t *keys = PyMem_Calloc(table->member_count + 1, sizeof *keys);
    PyObject *list = keys ? PyList_New(0) : PyErr_NoMemory();

    (void)unused;
    if (list) {
        Py_BEGIN_ALLOW_THREADS
        hs_backend_table_shares(table, keys);
        Py_END_ALLOW_THREADS
    }
    for (uint32_t i = 0; list && i < table->member_count; i++) {
        PyObject *row = Py_BuildValue("IHK", table->members[i].server_id, table->members[i].weight,
                                      (unsigned long long)keys[i]);

        if (!row || PyList_Append(list, row))
            Py_CLEAR(list);
        Py_XDECREF(row);
    }
    PyMem_Free(keys);
    return list;
}

static PyObject *table_moved(PyObject *self, PyObject *arguments)
{
    const struct hs_backend_table *table = table_of(self);
    uint64_t moved;
    PyObject *other;

    if (!PyArg_ParseTuple(arguments, "O!", Py_TYPE(self), &other))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    moved = hs_backend_table_moved(table, table_of(other));
    Py_END_ALLOW_THREADS
    return PyLong_FromUnsignedLongLong(moved);
}

static PyObject *table_ring(PyObject *self, PyObject *unused)
{
    const struct hs_ring *ring = table_of(self)->ring;
    PyObject *list = PyList_New(0);

    (void)unused;
    for (uint32_t i = 0; list && ring && i < ring->count; i++) {
        const struct hs_vnode *v = &ring->vnodes[i];
        PyObject *vnode = Py_BuildValue("IIHI", v->point, v->server_id, v->weight, v->generation);

        if (!vnode || PyList_Append(list, vnode))
            Py_CLEAR(list);
        Py_XDECREF(vnode);
    }
    return list;
}

static PyObject *table_slots(PyObject *self, PyObject *unused)
{
    const struct hs_backend_table *table = table_of(self);
    PyObject *list = PyList_New(table->member_count ? (Py_ssize_t)table->slot_count : 0);

    (void)unused;
    for (uint32_t i = 0; list && table->member_count && i < table->slot_count; i++) {
        PyObject *owner = PyLong_FromUnsignedLong(table->members[table->slots[i]].server_id);

        if (!owner || PyList_SetItem(list, (Py_ssize_t)i, owner))
            Py_CLEAR(list);
    }
    return list;
}

#define METHOD(name, function, flags) {name, (PyCFunction)(void (*)(void))(function), flags, NULL}

static PyMethodDef methods[] = {
    METHOD("find", table_find, METH_VARARGS),
    METHOD("shares", table_shares, METH_NOARGS),
    METHOD("moved", table_moved, METH_VARARGS),
    METHOD("ring", table_ring, METH_NOARGS),
    METHOD("slots", table_slots, METH_NOARGS),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

PyType_Spec hs_backend_table_spec = {
    .name = "hasyncd._native.BackendTable",
    .basicsize = sizeof(struct wrapped),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};
