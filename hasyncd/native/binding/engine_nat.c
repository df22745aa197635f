#include <arpa/inet.h>

#include "binding/engine.h"

static int parse_publics(PyObject *value, struct hs_nat_rule *rule)
{
    Py_ssize_t count = hs_checked_size(value, HS_PUBLICS_MAX, "public addresses");

    if (count < 0)
        return -1;
    rule->public_count = (uint32_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(value, i);
        int failed = !item || hs_parse_address(item, &rule->publics[i]);

        Py_XDECREF(item);
        if (failed)
            return -1;
    }
    return 0;
}

static int parse_nat_rule(PyObject *rules, Py_ssize_t index, struct hs_nat_rule *rule)
{
    PyObject *sources, *destinations, *publics;
    int first, last;

    *rule = (struct hs_nat_rule){.public_count = 0};
    if (hs_parse_item(rules, index, "OOOii", &sources, &destinations, &publics, &first, &last) ||
        hs_parse_prefixes(sources, &rule->sources) ||
        hs_parse_prefixes(destinations, &rule->destinations) || parse_publics(publics, rule))
        return -1;
    if (first < 1 || last > 65535 || first > last || !rule->public_count) {
        PyErr_SetString(PyExc_ValueError, "a public address and ports 1 to 65535, first <= last");
        return -1;
    }
    rule->port_first = (uint16_t)first;
    rule->port_last = (uint16_t)last;
    return 0;
}

PyObject *hs_engine_set_nat_rules(PyObject *self, PyObject *arguments)
{
    struct hs_rules *rules = &gateway_of(self)->rules;
    PyObject *list;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(arguments, "O", &list) ||
        (count = hs_checked_size(list, HS_NAT_RULES_MAX, "NAT rules")) < 0)
        return NULL;
    rules->nat_count = 0; /* none while they are being replaced: an error leaves nothing half read */
    for (Py_ssize_t i = 0; i < count; i++)
        if (parse_nat_rule(list, i, &rules->nat[i]))
            return NULL;
    rules->nat_count = (uint32_t)count;
    if (!hs_gateway_nat_changed(gateway_of(self))) {
        rules->nat_count = 0;
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

static int parse_ranges(PyObject *value, struct hs_nat_rule *rule)
{
    Py_ssize_t count = hs_checked_size(value, HS_RESERVED_MAX, "reserved ranges");

    if (count < 0)
        return -1;
    rule->reserved_count = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        struct hs_port_range *range = &rule->reserved[i];

        if (hs_parse_item(value, i, "HH", &range->first, &range->last))
            return -1;
    }
    rule->reserved_count = (uint32_t)count;
    return 0;
}

PyObject *hs_engine_set_nat_options(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"index", "exempt", "reserved", "max_flows_per_source", "hold_down_s",
                            "preserve_parity", "port_classes", "icmp_on_exhaustion", "log", NULL};
    struct hs_rules *rules = &gateway_of(self)->rules;
    unsigned int index, quota = 0, hold_down_s = 0;
    int parity = 0, classes = 0, icmp = 0, log = 0;
    PyObject *exempt = NULL, *reserved = NULL;
    struct hs_nat_rule *rule;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "I|$OOIIpppp", names, &index, &exempt, &reserved,
                                     &quota, &hold_down_s, &parity, &classes, &icmp, &log))
        return NULL;
    if (index >= rules->nat_count) {
        PyErr_SetString(PyExc_IndexError, "no such NAT rule");
        return NULL;
    }
    rule = &rules->nat[index];
    if ((exempt && hs_parse_prefixes(exempt, &rule->exempt)) || (reserved && parse_ranges(reserved, rule)))
        return NULL;
    rule->max_flows_per_source = quota;
    rule->hold_down_s = hold_down_s;
    rule->preserve_parity = parity;
    rule->port_classes = classes;
    rule->icmp_on_exhaustion = icmp;
    rule->log = log;
    hs_nat_rules_changed(&gateway_of(self)->nat, rules);
    Py_RETURN_NONE;
}

PyObject *hs_engine_set_policy(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"half_open_per_source", "loose", "early_drop", NULL};
    unsigned int half_open = 0;
    int loose = 0, early_drop = 0;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$Ipp", names, &half_open, &loose, &early_drop))
        return NULL;
    gateway_of(self)->policy = (struct hs_policy){half_open, loose, early_drop};
    Py_RETURN_NONE;
}

PyObject *hs_engine_open_mapping_log(PyObject *self, PyObject *arguments)
{
    unsigned int size;
    int destinations;

    if (!PyArg_ParseTuple(arguments, "Ip", &size, &destinations))
        return NULL;
    if (size < 4096) {
        PyErr_SetString(PyExc_ValueError, "a ring of 4,096 bytes at least");
        return NULL;
    }
    if (!hs_mapping_log_open(&gateway_of(self)->mappings, size, destinations))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyObject *hs_engine_take_mappings(PyObject *self, PyObject *arguments)
{
    struct hs_mapping_log *log = &gateway_of(self)->mappings;
    const char *front;
    PyObject *lines;
    uint32_t length;
    long long clock_ns;

    if (!PyArg_ParseTuple(arguments, "L", &clock_ns))
        return NULL;
    log->clock_ns = clock_ns;
    front = hs_mapping_log_front(log, &length);
    lines = PyBytes_FromStringAndSize(length ? front : "", (Py_ssize_t)length);
    if (lines)
        hs_mapping_log_take(log, length);
    return lines;
}

PyObject *hs_engine_set_forwards(PyObject *self, PyObject *arguments)
{
    struct hs_rules *rules = &gateway_of(self)->rules;
    PyObject *list, *allow;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(arguments, "O", &list) ||
        (count = hs_checked_size(list, HS_FORWARDS_MAX, "forwards")) < 0)
        return NULL;
    rules->forward_count = 0; /* none while they are being replaced: an error leaves nothing half read */
    for (Py_ssize_t i = 0; i < count; i++) {
        struct hs_forward *forward = &rules->forwards[i];
        unsigned int public, inside;
        unsigned short public_port, inside_port;

        if (hs_parse_item(list, i, "IHbIHO", &public, &public_port, &forward->proto, &inside, &inside_port,
                       &allow) ||
            hs_parse_prefixes(allow, &forward->allow))
            return NULL;
        forward->public = htonl(public);
        forward->inside = htonl(inside);
        forward->public_port = htons(public_port);
        forward->inside_port = htons(inside_port);
        forward->commit = HS_COMMIT_NONE;
    }
    rules->forward_count = (uint32_t)count;
    hs_nat_rules_changed(&gateway_of(self)->nat, rules);
    Py_RETURN_NONE;
}
