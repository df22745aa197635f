#include <arpa/inet.h>

#include "binding/engine.h"

int hs_parse_address(PyObject *value, uint32_t *address)
{
    unsigned long number = PyLong_AsUnsignedLong(value);

    if (PyErr_Occurred())
        return -1;
    if (number > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "an IPv4 address is below 2**32");
        return -1;
    }
    *address = htonl((uint32_t)number);
    return 0;
}

int hs_parse_either(PyObject *value, struct hs_either *address)
{
    *address = (struct hs_either){.family = PyBytes_Check(value) ? HS_IPV6 : HS_IPV4};
    if (address->family == HS_IPV4)
        return hs_parse_address(value, &address->v4);
    if (PyBytes_Size(value) != sizeof address->v6) {
        PyErr_SetString(PyExc_ValueError, "an IPv6 address has 16 bytes");
        return -1;
    }
    memcpy(&address->v6, PyBytes_AsString(value), sizeof address->v6);
    return 0;
}

PyObject *hs_wrap_address(uint32_t address)
{
    return PyLong_FromUnsignedLong(ntohl(address));
}

PyObject *hs_wrap_address6(const struct hs_address6 *address)
{
    return PyBytes_FromStringAndSize((const char *)address, sizeof *address);
}

int hs_parse_prefix(PyObject *value, int length, struct hs_either_prefix *prefix)
{
    struct hs_either address;

    *prefix = (struct hs_either_prefix){.family = HS_IPV4};
    if (hs_parse_either(value, &address))
        return -1;
    if (length < 0 || length > (address.family == HS_IPV4 ? 32 : 128)) {
        PyErr_SetString(PyExc_ValueError, "a prefix has 0 to 32 bits, an IPv6 one 128 at most");
        return -1;
    }
    prefix->family = address.family;
    if (address.family == HS_IPV6) {
        prefix->v6 = (struct hs_prefix6){address.v6, hs_address6_mask((uint32_t)length)};
        hs_address6_apply_mask(&prefix->v6.address, &prefix->v6.mask);
        return 0;
    }
    prefix->v4.mask = length ? htonl(UINT32_MAX << (32 - length)) : 0;
    prefix->v4.address = address.v4 & prefix->v4.mask;
    return 0;
}

int hs_check_side(int side)
{
    if (side >= 0 && side < HS_SIDES)
        return 0;
    PyErr_SetString(PyExc_ValueError, "side 0 or 1");
    return -1;
}

static bool is_plain(PyObject *object)
{
    return PyList_Check(object) || PyTuple_Check(object);
}

/* Lists and tuples only: they hold what "O" and "S" borrow, where another sequence may make its items as it is
 * asked. */
int hs_parse_item(PyObject *sequence, Py_ssize_t index, const char *format, ...)
{
    PyObject *item = is_plain(sequence) ? PySequence_GetItem(sequence, index) : NULL;
    PyObject *tuple = item && is_plain(item) ? PySequence_Tuple(item) : NULL;
    va_list outputs;
    int parsed;

    va_start(outputs, format);
    parsed = tuple ? PyArg_VaParse(tuple, format, outputs) : 0;
    va_end(outputs);
    if (!tuple && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "a list of tuples");
    Py_XDECREF(tuple);
    Py_XDECREF(item);
    return parsed ? 0 : -1;
}

Py_ssize_t hs_checked_size(PyObject *sequence, Py_ssize_t maximum, const char *what)
{
    Py_ssize_t size = PySequence_Size(sequence);

    if (size > maximum) {
        PyErr_Format(PyExc_ValueError, "at most %zd %s", maximum, what);
        return -1;
    }
    return size;
}

/* One (address, length) of a sequence, of this family. */
static int parse_prefix_at(PyObject *sequence, Py_ssize_t index, uint8_t family, struct hs_either_prefix *prefix)
{
    PyObject *address;
    int length;

    if (hs_parse_item(sequence, index, "Oi", &address, &length) || hs_parse_prefix(address, length, prefix))
        return -1;
    if (prefix->family == family)
        return 0;
    PyErr_SetString(PyExc_ValueError, "addresses of another family");
    return -1;
}

/* All of a sequence's prefixes of one family into `list`, whose elements have `size` bytes. */
static int parse_prefixes(PyObject *value, uint8_t family, uint32_t *parsed, void *list, size_t size)
{
    Py_ssize_t count = hs_checked_size(value, HS_PREFIXES_MAX, "prefixes");
    struct hs_either_prefix prefix;

    if (count < 0)
        return -1;
    *parsed = 0; /* an error leaves nothing that matches */
    for (Py_ssize_t i = 0; i < count; i++) {
        const void *found = family == HS_IPV6 ? (const void *)&prefix.v6 : &prefix.v4;

        if (parse_prefix_at(value, i, family, &prefix))
            return -1;
        memcpy((uint8_t *)list + size * *parsed, found, size);
        ++*parsed;
    }
    return 0;
}

int hs_parse_prefixes(PyObject *value, struct hs_prefixes *prefixes)
{
    return parse_prefixes(value, HS_IPV4, &prefixes->count, prefixes->list, sizeof *prefixes->list);
}

int hs_parse_prefixes6(PyObject *value, struct hs_prefixes6 *prefixes)
{
    return parse_prefixes(value, HS_IPV6, &prefixes->count, prefixes->list, sizeof *prefixes->list);
}
