#include "core/delta_log.h"

#include <stdlib.h>

bool hs_delta_log_init(struct hs_delta_log *log, uint32_t capacity)
{
    uint32_t rounded = 16;

    while (rounded < capacity && rounded < 1u << 26)
        rounded *= 2;
    *log = (struct hs_delta_log){.capacity = rounded, .next = 1, .send_next = 1};
    log->entries = malloc(rounded * sizeof *log->entries);
    return log->entries != NULL;
}

void hs_delta_log_free(struct hs_delta_log *log)
{
    free(log->entries);
    log->entries = NULL;
}

static struct hs_log_entry *entry_at(const struct hs_delta_log *log, uint64_t sequence)
{
    return &log->entries[sequence & (log->capacity - 1)];
}

uint64_t hs_delta_log_oldest(const struct hs_delta_log *log)
{
    return log->next > log->capacity ? log->next - log->capacity : 1;
}

const struct hs_log_entry *hs_delta_log_entry(const struct hs_delta_log *log, uint64_t sequence)
{
    return entry_at(log, sequence);
}

uint8_t *hs_delta_log_append(struct hs_delta_log *log, uint64_t now_ns)
{
    struct hs_log_entry *entry = entry_at(log, log->next);

    if (log->next > log->capacity && log->next - log->capacity > log->acknowledged)
        log->overrun = true;
    log->next++;
    if (log->send_next < hs_delta_log_oldest(log))
        log->send_next = hs_delta_log_oldest(log);
    entry->at_ns = now_ns;
    return entry->record;
}

uint32_t hs_delta_log_drain(struct hs_delta_log *log, uint8_t *out, uint32_t room, uint32_t *count)
{
    uint32_t used = 0;

    *count = 0;
    for (; log->send_next < log->next; log->send_next++, ++*count) {
        const struct hs_log_entry *entry = entry_at(log, log->send_next);
        uint32_t size = hs_record_size(entry->record[0]);

        if (size > room - used)
            break;
        memcpy(out + used, entry->record, size);
        used += size;
    }
    return used;
}

bool hs_delta_log_rewind(struct hs_delta_log *log, uint64_t sequence)
{
    if (sequence < hs_delta_log_oldest(log) || sequence > log->next || sequence == 0)
        return false;
    log->send_next = sequence;
    log->overrun = false;
    return true;
}
