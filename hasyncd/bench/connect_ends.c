#include "connect_ends.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Headers older than 6.6 do not know tcx. */
enum { TCX_INGRESS = 46, TCX_DROP = 2 };
#define TCX_NEXT (-1)

/* A server's first sequence number is its client's with these bits turned: both can check, none remembers. */
enum { SEQUENCE_TURN = 0x5a5a5a5a };

/* Registers: those from CONTEXT on survive calls. LATER is the number that follows another one. */
enum { R0, R1, R2, R3, R4, R5, CONTEXT, DATA, SEQUENCE, LATER };

enum { CODE_MAX = 192, LEAVES_MAX = 16 };

struct program {
    struct bpf_insn code[CODE_MAX];
    int count;
    int leaves[LEAVES_MAX], leave_count; /* jumps to where somebody else's packets go on */
};

static void put(struct program *p, int code, int dst, int src, int offset, int32_t value)
{
    if (p->count == CODE_MAX)
        abort();
    p->code[p->count++] = (struct bpf_insn){
        .code = (uint8_t)code,
        .dst_reg = (uint8_t)dst & 15u,
        .src_reg = (uint8_t)src & 15u,
        .off = (int16_t)offset,
        .imm = value,
    };
}

static void load(struct program *p, int size, int to, int from, int offset)
{
    put(p, BPF_LDX | BPF_MEM | size, to, from, offset, 0);
}

static void store(struct program *p, int size, int offset, int from)
{
    put(p, BPF_STX | BPF_MEM | size, DATA, from, offset, 0);
}

static void move(struct program *p, int to, int from)
{
    put(p, BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0);
}

static void set(struct program *p, int to, int32_t value)
{
    put(p, BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value);
}

static void call(struct program *p, int function)
{
    put(p, BPF_JMP | BPF_CALL, 0, 0, 0, function);
}

static void leave_unless(struct program *p, int reg, int32_t value)
{
    if (p->leave_count == LEAVES_MAX)
        abort();
    p->leaves[p->leave_count++] = p->count;
    put(p, BPF_JMP | BPF_JNE | BPF_K, reg, 0, 0, value);
}

/* A jump to be filled in by `land` once it is known where to. */
static int jump_unless(struct program *p, int reg, int32_t value)
{
    put(p, BPF_JMP32 | BPF_JNE | BPF_K, reg, 0, 0, value);
    return p->count - 1;
}

static void land(struct program *p, int jump)
{
    p->code[jump].off = (int16_t)(p->count - jump - 1);
}

static void finish(struct program *p, int32_t verdict)
{
    set(p, R0, verdict);
    put(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* DATA points to a whole header from here on; anything shorter is left to others. */
static void find_frame(struct program *p)
{
    load(p, BPF_W, DATA, CONTEXT, offsetof(struct __sk_buff, data));
    load(p, BPF_W, R3, CONTEXT, offsetof(struct __sk_buff, data_end));
    move(p, R2, DATA);
    put(p, BPF_ALU64 | BPF_ADD | BPF_K, R2, 0, 0, FRAME_LENGTH);
    p->leaves[p->leave_count++] = p->count;
    put(p, BPF_JMP | BPF_JGT | BPF_X, R2, R3, 0, 0);
}

/* TCP over IPv4 without options; its flags are in R2 then. */
static void begin(struct program *p)
{
    move(p, CONTEXT, R1);
    find_frame(p);
    load(p, BPF_H, R2, DATA, AT_ETHERTYPE);
    leave_unless(p, R2, htons(ETH_P_IP));
    load(p, BPF_B, R2, DATA, AT_IP);
    leave_unless(p, R2, 0x45);
    load(p, BPF_B, R2, DATA, AT_PROTOCOL);
    leave_unless(p, R2, 6);
    load(p, BPF_B, R2, DATA, AT_FLAGS);
}

static void end(struct program *p)
{
    for (int i = 0; i < p->leave_count; i++)
        land(p, p->leaves[i]);
    finish(p, TCX_NEXT);
}

static void exchange(struct program *p, int size, int one, int other)
{
    load(p, size, R2, DATA, one);
    load(p, size, R3, DATA, other);
    store(p, size, one, R3);
    store(p, size, other, R2);
}

static void turn_round(struct program *p)
{
    exchange(p, BPF_W, AT_MAC_DST, AT_MAC_SRC);
    exchange(p, BPF_H, AT_MAC_DST + 4, AT_MAC_SRC + 4);
    exchange(p, BPF_W, AT_IP_SRC, AT_IP_DST);
    exchange(p, BPF_H, AT_PORT_SRC, AT_PORT_DST);
}

static void load_number(struct program *p, int to, int offset)
{
    load(p, BPF_W, to, DATA, offset);
    put(p, BPF_ALU | BPF_END | BPF_TO_BE, to, 0, 0, 32);
}

/* Changes `reg`. */
static void store_number(struct program *p, int offset, int reg)
{
    put(p, BPF_ALU | BPF_END | BPF_TO_BE, reg, 0, 0, 32);
    store(p, BPF_W, offset, reg);
}

static void store_flags(struct program *p, uint8_t flags)
{
    put(p, BPF_ST | BPF_MEM | BPF_B, DATA, 0, AT_FLAGS, flags);
}

static void add(struct program *p, int reg, int32_t value)
{
    put(p, BPF_ALU | BPF_ADD | BPF_K, reg, 0, 0, value);
}

static void count(struct program *p, int map, enum connect_count which)
{
    put(p, BPF_LD | BPF_DW | BPF_IMM, R1, BPF_PSEUDO_MAP_VALUE, 0, map);
    put(p, 0, 0, 0, 0, (int32_t)(which * COUNT_STRIDE * sizeof(uint64_t)));
    set(p, R2, 1);
    put(p, BPF_STX | BPF_ATOMIC | BPF_DW, R1, R2, 0, BPF_ADD);
}

static void send_back(struct program *p, int ifindex)
{
    set(p, R1, ifindex);
    set(p, R2, 0);
    call(p, BPF_FUNC_redirect);
    put(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* A connection's numbers: of its client's first sequence number, its server's. */
static void turn_number(struct program *p, int reg)
{
    put(p, BPF_ALU | BPF_XOR | BPF_K, reg, 0, 0, SEQUENCE_TURN);
}

static void count_wrong(struct program *p, int map)
{
    count(p, map, WRONG);
    finish(p, TCX_DROP);
}

static void write_server(struct program *p, int map, int ifindex)
{
    int otherwise;

    begin(p);
    otherwise = jump_unless(p, R2, TCP_SYN);
    load_number(p, SEQUENCE, AT_SEQUENCE);
    move(p, LATER, SEQUENCE);
    add(p, LATER, 1);
    turn_number(p, SEQUENCE);
    turn_round(p);
    store_number(p, AT_SEQUENCE, SEQUENCE);
    store_number(p, AT_ACK, LATER);
    store_flags(p, TCP_SYN | TCP_ACK);
    count(p, map, ANSWERED);
    send_back(p, ifindex);
    land(p, otherwise);

    otherwise = jump_unless(p, R2, TCP_ACK);
    load_number(p, SEQUENCE, AT_SEQUENCE);
    load_number(p, LATER, AT_ACK);
    add(p, SEQUENCE, -1);
    turn_number(p, SEQUENCE);
    add(p, SEQUENCE, 1);
    put(p, BPF_ALU | BPF_SUB | BPF_X, LATER, SEQUENCE, 0, 0);
    int wrong = jump_unless(p, LATER, 0);
    count(p, map, ESTABLISHED);
    finish(p, TCX_DROP);
    land(p, wrong);
    count_wrong(p, map);
    land(p, otherwise);

    leave_unless(p, R2, TCP_RST);
    count(p, map, RESETS);
    finish(p, TCX_DROP);
    end(p);
}

static void write_client(struct program *p, int map, int ifindex)
{
    int wrong;

    begin(p);
    leave_unless(p, R2, TCP_SYN | TCP_ACK);
    load_number(p, SEQUENCE, AT_SEQUENCE);
    load_number(p, LATER, AT_ACK);
    move(p, R4, LATER);
    add(p, R4, -1);
    turn_number(p, R4);
    put(p, BPF_ALU | BPF_SUB | BPF_X, R4, SEQUENCE, 0, 0);
    wrong = jump_unless(p, R4, 0);
    turn_round(p);
    add(p, SEQUENCE, 1);
    store_number(p, AT_SEQUENCE, LATER);
    store_number(p, AT_ACK, SEQUENCE);
    store_flags(p, TCP_ACK);
    count(p, map, CONFIRMED);
    move(p, R1, CONTEXT);
    set(p, R2, ifindex);
    set(p, R3, 0);
    call(p, BPF_FUNC_clone_redirect);
    find_frame(p); /* the call may have moved it */
    store_flags(p, TCP_RST);
    send_back(p, ifindex);
    land(p, wrong);
    count_wrong(p, map);
    end(p);
}

static int bpf(int command, union bpf_attr *attributes)
{
    return (int)syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

int connect_ends_open(struct connect_ends *ends)
{
    size_t size = CONNECT_COUNTS * COUNT_STRIDE * sizeof(uint64_t);
    union bpf_attr attributes;
    void *counts;

    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = 4;
    attributes.value_size = (uint32_t)size;
    attributes.max_entries = 1;
    attributes.map_flags = BPF_F_MMAPABLE;
    ends->map = bpf(BPF_MAP_CREATE, &attributes);
    if (ends->map < 0)
        return -1;
    counts = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ends->map, 0);
    if (counts == MAP_FAILED)
        return -1;
    ends->counts = counts;
    return 0;
}

/* Loads and attaches; what the verifier has against it goes to stderr. -1 with errno. */
static int attach(const struct program *p, int ifindex)
{
    static char complaint[1 << 16];
    union bpf_attr attributes;
    int program, error;

    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
    attributes.insns = (uintptr_t)p->code;
    attributes.insn_cnt = (uint32_t)p->count;
    attributes.license = (uintptr_t) "Apache-2.0";
    attributes.log_buf = (uintptr_t)complaint;
    attributes.log_size = sizeof complaint;
    attributes.log_level = 1;
    program = bpf(BPF_PROG_LOAD, &attributes);
    if (program < 0) {
        error = errno;
        fprintf(stderr, "%s\n", complaint);
        errno = error;
        return -1;
    }
    memset(&attributes, 0, sizeof attributes);
    attributes.link_create.prog_fd = (uint32_t)program;
    attributes.link_create.target_ifindex = (uint32_t)ifindex;
    attributes.link_create.attach_type = TCX_INGRESS;
    return bpf(BPF_LINK_CREATE, &attributes); /* open until the process ends: so long it is attached */
}

int connect_ends_attach_server(const struct connect_ends *ends, int ifindex)
{
    struct program p = {.count = 0};

    write_server(&p, ends->map, ifindex);
    return attach(&p, ifindex);
}

int connect_ends_attach_client(const struct connect_ends *ends, int ifindex)
{
    struct program p = {.count = 0};

    write_client(&p, ends->map, ifindex);
    return attach(&p, ifindex);
}
