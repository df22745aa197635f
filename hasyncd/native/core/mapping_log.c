#include "core/mapping_log.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINE_MAX_BYTES = 320, TIME_BYTES = 64 };

bool hs_mapping_log_open(struct hs_mapping_log *log, uint32_t size, bool destinations)
{
    char *bytes = malloc(size);

    if (!bytes)
        return false;
    free(log->bytes);
    *log = (struct hs_mapping_log){.bytes = bytes, .size = size, .destinations = destinations, .lost = log->lost};
    return true;
}

void hs_mapping_log_free(struct hs_mapping_log *log)
{
    free(log->bytes);
}

/* RFC 3339 in UTC. The calendar is Howard Hinnant's days_from_civil, backwards. */
static void format_time(char *out, int64_t at_ns)
{
    uint64_t ns = at_ns < 0 ? 0 : (uint64_t)at_ns, seconds = ns / 1000000000;
    uint64_t days = seconds / 86400 + 719468, era = days / 146097, of_era = days % 146097;
    uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    unsigned int day = (unsigned int)(of_year - (153 * month + 2) / 5 + 1);
    unsigned int number = (unsigned int)(month < 10 ? month + 3 : month - 9);

    snprintf(out, TIME_BYTES, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned int)(year + era * 400 + (number <= 2)),
             number, day, (unsigned int)(seconds / 3600 % 24), (unsigned int)(seconds / 60 % 60),
             (unsigned int)(seconds % 60), (unsigned int)(ns / 1000000 % 1000));
}

static int format_end(char *out, size_t room, const char *key, uint32_t address, uint16_t port)
{
    const uint8_t *a = (const uint8_t *)&address;

    return snprintf(out, room, ",\"%s\":\"%u.%u.%u.%u:%u\"", key, a[0], a[1], a[2], a[3], ntohs(port));
}

static int format_line(char *out, const char *time, const char *event, const struct hs_flow *flow, bool destination)
{
    const struct hs_tuple *original = &flow->tuple[HS_ORIGINAL], *reply = &flow->tuple[HS_REPLY];
    const char *protocol = original->proto == HS_TCP ? "tcp" : original->proto == HS_UDP ? "udp" : "icmp";
    bool icmp = original->proto == HS_ICMP;
    int at = snprintf(out, LINE_MAX_BYTES, "{\"time\":\"%s\",\"event\":\"%s\",\"protocol\":\"%s\"", time, event, protocol);

    at += format_end(out + at, (size_t)(LINE_MAX_BYTES - at), "inside", original->src_addr, original->src_port);
    at += format_end(out + at, (size_t)(LINE_MAX_BYTES - at), "public", reply->dst_addr,
                     icmp ? reply->src_port : reply->dst_port);
    if (destination)
        at += format_end(out + at, (size_t)(LINE_MAX_BYTES - at), "destination", original->dst_addr,
                         original->dst_port);
    return at + snprintf(out + at, (size_t)(LINE_MAX_BYTES - at), ",\"rule\":%d}\n", flow->rule);
}

static void append(struct hs_mapping_log *log, const char *line, uint32_t length)
{
    uint32_t at = (uint32_t)(log->written % log->size), first = log->size - at < length ? log->size - at : length;

    memcpy(log->bytes + at, line, first);
    memcpy(log->bytes, line + first, length - first);
    log->written += length;
}

void hs_mapping_log_write(struct hs_mapping_log *log, const char *event, const struct hs_flow *flow, uint64_t now_ns)
{
    char line[LINE_MAX_BYTES], time[TIME_BYTES];
    uint64_t room;
    int length;

    if (!log->bytes)
        return;
    room = log->size - (log->written - log->taken);
    if (room < 2 * LINE_MAX_BYTES) { /* the line, and the one that tells of those lost */
        log->lost++;
        log->lost_untold++;
        return;
    }
    format_time(time, (int64_t)now_ns + log->clock_ns);
    if (log->lost_untold) {
        length = snprintf(line, sizeof line, "{\"time\":\"%s\",\"event\":\"lost\",\"lines\":%llu}\n", time,
                          (unsigned long long)log->lost_untold);
        append(log, line, (uint32_t)length);
        log->lost_untold = 0;
    }
    length = format_line(line, time, event, flow, log->destinations);
    append(log, line, (uint32_t)length);
}

const char *hs_mapping_log_front(const struct hs_mapping_log *log, uint32_t *length)
{
    uint64_t waiting = log->written - log->taken;
    uint32_t at = log->bytes ? (uint32_t)(log->taken % log->size) : 0;

    *length = waiting < log->size - at ? (uint32_t)waiting : log->size - at;
    return log->bytes + at;
}

void hs_mapping_log_take(struct hs_mapping_log *log, uint32_t length)
{
    log->taken += length;
}
