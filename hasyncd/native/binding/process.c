/* What the extension does for the process as a whole. */
#include <errno.h>

#include "binding/engine.h"
#include "io/memory_keeper.h"

static PyObject *start_memory_keeper(PyObject *module, PyObject *unused)
{
    int pid = hs_memory_keeper_start();

    (void)module, (void)unused;
    if (pid < 0) {
        errno = -pid;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(pid);
}

PyMethodDef hs_process_methods[] = {
    {"start_memory_keeper", start_memory_keeper, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
