#include "core/delta_log.h"

#include <stdlib.h>

static uint32_t round_up(uint32_t records)
{
    uint32_t rounded = 16;

    while (rounded < records && rounded < 1u << 26)
        rounded *= 2;
    return rounded;
}

size_t hs_delta_log_bytes(uint32_t records)
{
    return HS_LOG_HEAD + round_up(records) * sizeof(struct hs_log_entry);
}

bool hs_delta_log_init(struct hs_delta_log *log, uint32_t records, void *memory)
{
    *log = (struct hs_delta_log){.capacity = round_up(records), .next = 1, .send_next = 1, .borrowed = memory != NULL};
    log->head = memory ? memory : calloc(1, hs_delta_log_bytes(records));
    if (!log->head)
        return false;
    log->entries = (struct hs_log_entry *)((uint8_t *)log->head + HS_LOG_HEAD);
    *log->head = (struct hs_log_head){
        .magic = HS_LOG_MAGIC,
        .layout = HS_LOG_LAYOUT,
        .entry_size = sizeof(struct hs_log_entry),
        .capacity = log->capacity,
        .record_offset = offsetof(struct hs_log_entry, record),
        .at_risk_offset = offsetof(struct hs_log_entry, at_risk),
        .next = 1,
    };
    return true;
}

void hs_delta_log_free(struct hs_delta_log *log)
{
    if (!log->borrowed)
        free(log->head);
    log->head = NULL;
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

struct hs_log_entry *hs_delta_log_append(struct hs_delta_log *log, uint64_t now_ns)
{
    struct hs_log_entry *entry = entry_at(log, log->next);

    if (log->next > log->capacity && log->next - log->capacity > log->acknowledged)
        log->overrun = true;
    log->next++;
    if (log->send_next < hs_delta_log_oldest(log))
        log->send_next = hs_delta_log_oldest(log);
    entry->at_ns = now_ns;
    entry->at_risk = 0;
    return entry;
}

void hs_delta_log_tell(struct hs_delta_log *log, uint32_t at_risk, uint32_t flows)
{
    struct hs_log_head *head = log->head;

    head->at_risk = at_risk;
    head->flows = flows;
    head->acknowledged = log->acknowledged;
    /* SIGKILL may fall between any two stores: what `next` covers was written before it. */
    __atomic_store_n(&head->next, log->next, __ATOMIC_RELEASE);
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
