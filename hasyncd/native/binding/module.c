#include "binding/engine.h"

static int module_exec(PyObject *module)
{
    PyObject *engine = PyType_FromModuleAndSpec(module, &hs_engine_spec, NULL);
    PyObject *table = PyType_FromModuleAndSpec(module, &hs_backend_table_spec, NULL);
    int failed = !engine || PyModule_AddObjectRef(module, "Engine", engine) || !table ||
                 PyModule_AddObjectRef(module, "BackendTable", table) ||
                 PyModule_AddIntConstant(module, "INSIDE", HS_INSIDE) ||
                 PyModule_AddIntConstant(module, "OUTSIDE", HS_OUTSIDE);

    Py_XDECREF(engine);
    Py_XDECREF(table);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hasyncd._native",
    .m_doc = "The data path of hasyncd; see hasyncd/_native.pyi.",
    .m_methods = hs_process_methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
