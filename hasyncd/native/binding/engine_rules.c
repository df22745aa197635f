#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "binding/engine.h"

/* What is said once of IPv6: its flows need room for their addresses. -1 with an exception. */
static int prepare_ipv6(PyObject *self)
{
    if (hs_ends6_reserve(gateway_of(self)->table))
        return 0;
    PyErr_NoMemory();
    return -1;
}

int hs_check_forwardable(const struct hs_address6 *address)
{
    if (hs_address6_is_forwardable(address))
        return 0;
    PyErr_SetString(PyExc_ValueError, "an IPv6 address beyond the link, and not an IPv4 one in disguise");
    return -1;
}

/* The groups in which our VIPs of a side are solicited, on its socket. */
static int join_groups(PyObject *self)
{
    struct engine *engine = (struct engine *)self;

    for (int side = 0; side < HS_SIDES; side++) {
        int error = hs_engine_join_groups(engine, side);

        if (!error)
            continue;
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

PyObject *hs_engine_set_vips(PyObject *self, PyObject *arguments)
{
    struct hs_rules *rules = &gateway_of(self)->rules;
    struct hs_vip parsed[HS_VIPS_MAX];
    struct hs_vip6 parsed6[HS_VIPS_MAX];
    uint32_t count4 = 0, count6 = 0;
    PyObject *vips;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(arguments, "O", &vips) ||
        (count = hs_checked_size(vips, HS_VIPS_MAX, "VIPs")) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        struct hs_either address;
        unsigned char side;
        PyObject *value;

        if (hs_parse_item(vips, i, "bO", &side, &value) || hs_check_side(side) || hs_parse_either(value, &address))
            return NULL;
        if (address.family == HS_IPV4)
            parsed[count4++] = (struct hs_vip){address.v4, side};
        else if (hs_check_forwardable(&address.v6))
            return NULL;
        else
            parsed6[count6++] = (struct hs_vip6){address.v6, side};
    }
    if (count6 && prepare_ipv6(self))
        return NULL;
    memcpy(rules->vips, parsed, count4 * sizeof *parsed);
    memcpy(rules->vips6, parsed6, count6 * sizeof *parsed6);
    rules->vip_count = count4;
    rules->vip6_count = count6;
    memset(gateway_of(self)->claims, 0, sizeof gateway_of(self)->claims);
    memset(gateway_of(self)->claims6, 0, sizeof gateway_of(self)->claims6);
    if (join_groups(self))
        return NULL;
    Py_RETURN_NONE;
}

PyObject *hs_engine_set_passes(PyObject *self, PyObject *arguments)
{
    struct hs_rules *rules = &gateway_of(self)->rules;
    PyObject *list, *sources, *destinations;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(arguments, "O", &list) ||
        (count = hs_checked_size(list, HS_PASSES_MAX, "pass rules")) < 0 || (count && prepare_ipv6(self)))
        return NULL;
    rules->pass_count = 0; /* none while they are being replaced: an error leaves nothing half read */
    for (Py_ssize_t i = 0; i < count; i++) {
        struct hs_pass *pass = &rules->passes[i];
        int inbound;

        if (hs_parse_item(list, i, "OOp", &sources, &destinations, &inbound) ||
            hs_parse_prefixes6(sources, &pass->sources) || hs_parse_prefixes6(destinations, &pass->destinations))
            return NULL;
        pass->inbound = inbound;
        pass->commit = HS_COMMIT_NONE;
    }
    rules->pass_count = (uint32_t)count;
    Py_RETURN_NONE;
}

/* Where a service is: of one family, as what it allows is. */
static int describe_service(PyObject *self, struct hs_service *service, const struct hs_either *vip, PyObject *allow)
{
    if (vip->family == HS_IPV6 && (hs_check_forwardable(&vip->v6) || prepare_ipv6(self)))
        return -1;
    if (service->backend_count && service->family != vip->family) {
        PyErr_SetString(PyExc_ValueError, "a service keeps its family");
        return -1;
    }
    service->family = vip->family;
    service->vip = vip->v4;
    service->vip6 = vip->v6;
    return vip->family == HS_IPV6 ? hs_parse_prefixes6(allow, &service->allow6)
                                  : hs_parse_prefixes(allow, &service->allow);
}

PyObject *hs_engine_set_service(PyObject *self, PyObject *arguments)
{
    struct hs_rules *rules = &gateway_of(self)->rules;
    unsigned int index;
    unsigned short port;
    unsigned char protocol;
    struct hs_service *service;
    PyObject *address, *allow;
    struct hs_either vip;

    if (!PyArg_ParseTuple(arguments, "IOHbO", &index, &address, &port, &protocol, &allow) ||
        hs_parse_either(address, &vip))
        return NULL;
    if (index > rules->service_count || index >= HS_SERVICES_MAX) {
        PyErr_SetString(PyExc_ValueError, "services are declared in order");
        return NULL;
    }
    service = &rules->services[index];
    if (index == rules->service_count) {
        if (!hs_service_init(service))
            return PyErr_NoMemory();
        rules->service_count++;
    }
    service->port = htons(port);
    service->proto = protocol;
    if (describe_service(self, service, &vip, allow))
        return NULL;
    hs_nat_rules_changed(&gateway_of(self)->nat, rules);
    Py_RETURN_NONE;
}

/* Where a rule's mode is; NULL: there is no such rule. */
static enum hs_commit *commit_of(struct hs_rules *rules, const char *table, uint32_t index)
{
    if (strcmp(table, "service") == 0 && index < rules->service_count)
        return &rules->services[index].commit;
    if (strcmp(table, "nat") == 0 && index < rules->nat_count)
        return &rules->nat[index].commit;
    if (strcmp(table, "forward") == 0 && index < rules->forward_count)
        return &rules->forwards[index].commit;
    if (strcmp(table, "pass") == 0 && index < rules->pass_count)
        return &rules->passes[index].commit;
    return NULL;
}

PyObject *hs_engine_set_rule_commit(PyObject *self, PyObject *arguments)
{
    enum hs_commit *place, commit;
    const char *table, *mode;
    unsigned int index;

    if (!PyArg_ParseTuple(arguments, "sIs", &table, &index, &mode) || hs_parse_commit(mode, "default", &commit))
        return NULL;
    place = commit_of(&gateway_of(self)->rules, table, index);
    if (!place) {
        PyErr_SetString(PyExc_IndexError, "no such rule");
        return NULL;
    }
    *place = commit;
    Py_RETURN_NONE;
}
