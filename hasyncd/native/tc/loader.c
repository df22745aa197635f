/* hasyncd._tc: loads the flow cache (flow_cache.bpf.c) and hangs it on interfaces. An extension of its own, so that nothing else
 * needs libbpf: hasyncd/_tc.pyi documents it.
 *
 * Objects are libbpf's business; tcx links are made by bpf(2), which libbpf 1.1 and the headers of Linux 6.1 do not know.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TCX_INGRESS = 46, LINK_CREATE = 28, CLSACT_HANDLE = 1, REASON_BYTES = 512 };

/* As `load` returns them. */
static const char *const map_names[] = {"flows", "flows6", "uses", "control", "counters", "whose"};
enum { FLOWS, FLOWS6, USES, CONTROL, COUNTERS, WHOSE, MAPS };

/* The last warning of libbpf says why, where errno is only "invalid argument". Under the interpreter's lock. */
static char reason[REASON_BYTES];

static int note_warning(enum libbpf_print_level level, const char *format, va_list arguments)
{
    if (level == LIBBPF_WARN)
        vsnprintf(reason, sizeof reason, format, arguments);
    return 0;
}

static PyObject *fail(int error, const char *what)
{
    PyObject *value;

    reason[strcspn(reason, "\n")] = '\0';
    value = Py_BuildValue("iN", error, PyUnicode_FromFormat("%s: %s%s%s", what, strerror(error), *reason ? ": " : "",
                                                            reason));
    if (value)
        PyErr_SetObject(PyExc_OSError, value);
    Py_XDECREF(value);
    return NULL;
}

static int size_maps(struct bpf_object *object, uint32_t capacity, uint32_t capacity6)
{
    const uint32_t entries[] = {[FLOWS] = 2 * capacity, [FLOWS6] = capacity6 ? 2 * capacity6 : 1, [USES] = 2 * capacity};

    for (int i = 0; i < MAPS; i++) {
        struct bpf_map *map = bpf_object__find_map_by_name(object, map_names[i]);

        if (!map)
            return ENOENT;
        if (i <= USES && bpf_map__set_max_entries(map, entries[i]))
            return EINVAL;
    }
    return 0;
}

static PyObject *describe(struct bpf_object *object)
{
    struct bpf_program *program = bpf_object__find_program_by_name(object, "flow_cache");
    PyObject *loaded = PyDict_New(), *number;
    int failed = !loaded;

    for (int i = -1; i < MAPS && !failed; i++) {
        int fd = i < 0 ? bpf_program__fd(program)
                       : bpf_map__fd(bpf_object__find_map_by_name(object, map_names[i]));

        fd = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* the object's own go with it */
        number = fd < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(fd);
        failed = !number || PyDict_SetItemString(loaded, i < 0 ? "program" : map_names[i], number);
        Py_XDECREF(number);
    }
    number = failed ? NULL : PyLong_FromLong(libbpf_num_possible_cpus());
    failed = !number || PyDict_SetItemString(loaded, "cpus", number);
    Py_XDECREF(number);
    if (failed)
        Py_CLEAR(loaded);
    return loaded;
}

static PyObject *load(PyObject *self, PyObject *arguments)
{
    const char *path;
    unsigned int capacity, capacity6;
    struct bpf_object *object;
    PyObject *loaded = NULL;
    int error;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "sII", &path, &capacity, &capacity6))
        return NULL;
    *reason = '\0';
    libbpf_set_print(note_warning);
    object = bpf_object__open(path);
    if (!object)
        return fail(errno, "reading the program");
    bpf_program__set_type(bpf_object__next_program(object, NULL), BPF_PROG_TYPE_SCHED_CLS);
    error = size_maps(object, capacity, capacity6);
    if (!error && bpf_object__load(object))
        error = errno;
    loaded = error ? fail(error, "loading the program") : describe(object);
    bpf_object__close(object);
    return loaded;
}

static PyObject *attach_tcx(PyObject *self, PyObject *arguments)
{
    /* union bpf_attr of Linux 6.6: link_create with no flags and no relative program. */
    struct {
        uint32_t prog_fd, target_ifindex, attach_type, flags, relative_fd, zero;
        uint64_t expected_revision;
    } attribute = {.attach_type = TCX_INGRESS};
    int link;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "II", &attribute.prog_fd, &attribute.target_ifindex))
        return NULL;
    *reason = '\0';
    link = (int)syscall(SYS_bpf, LINK_CREATE, &attribute, sizeof attribute);
    return link < 0 ? fail(errno, "attaching it by tcx") : PyLong_FromLong(link);
}

static PyObject *attach_clsact(PyObject *self, PyObject *arguments)
{
    struct bpf_tc_hook hook = {.sz = sizeof hook, .attach_point = BPF_TC_INGRESS};
    struct bpf_tc_opts options = {.sz = sizeof options, .handle = CLSACT_HANDLE, .flags = BPF_TC_F_REPLACE};
    int error;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "iiI", &options.prog_fd, &hook.ifindex, &options.priority))
        return NULL;
    *reason = '\0';
    libbpf_set_print(note_warning);
    error = bpf_tc_hook_create(&hook);
    if (!error || error == -EEXIST)
        error = bpf_tc_attach(&hook, &options);
    if (error)
        return fail(-error, "attaching it by clsact");
    Py_RETURN_NONE;
}

static PyObject *detach_clsact(PyObject *self, PyObject *arguments)
{
    struct bpf_tc_hook hook = {.sz = sizeof hook, .attach_point = BPF_TC_INGRESS};
    struct bpf_tc_opts options = {.sz = sizeof options, .handle = CLSACT_HANDLE};

    (void)self;
    if (!PyArg_ParseTuple(arguments, "iI", &hook.ifindex, &options.priority))
        return NULL;
    *reason = '\0';
    libbpf_set_print(note_warning);
    return PyBool_FromLong(!bpf_tc_detach(&hook, &options));
}

static PyObject *put(PyObject *self, PyObject *arguments)
{
    const char *key, *value;
    Py_ssize_t key_size, value_size;
    int map;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "iy#y#", &map, &key, &key_size, &value, &value_size))
        return NULL;
    *reason = '\0';
    if (bpf_map_update_elem(map, key, value, BPF_ANY))
        return fail(errno, "writing a map");
    Py_RETURN_NONE;
}

static PyObject *take_out(PyObject *self, PyObject *arguments)
{
    const char *key;
    Py_ssize_t key_size;
    int map;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "iy#", &map, &key, &key_size))
        return NULL;
    *reason = '\0';
    if (bpf_map_delete_elem(map, key))
        return fail(errno, "writing a map");
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"load", load, METH_VARARGS, NULL},
    {"attach_tcx", attach_tcx, METH_VARARGS, NULL},
    {"attach_clsact", attach_clsact, METH_VARARGS, NULL},
    {"detach_clsact", detach_clsact, METH_VARARGS, NULL},
    {"put", put, METH_VARARGS, NULL},
    {"take_out", take_out, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "hasyncd._tc", .m_size = -1, .m_methods = methods,
};

__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__tc(void)
{
    return PyModule_Create(&module);
}
