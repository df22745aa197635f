/* The fast path: established flows are rewritten and redirected at tc ingress; whatever is not such a packet goes up, unchanged, to
 * the engine's packet sockets, and what is the engine's goes to them alone.
 *
 * The verdicts: a redirect (a hit); TC_ACT_OK for what is the engine's, as another machine's packet (PACKET_OTHERHOST: the
 * stack drops those, packet sockets get them) with HS_CACHE_MARK (the sockets' filter takes those); TC_ACT_UNSPEC for all
 * else, which is then judged as if this program were not here.
 *
 * Linux of which it asks most: bpf_redirect_neigh, skb->gso_size (5.10), bpf_ktime_get_boot_ns (5.8).
 */
#include <stdbool.h>
#include <stdint.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "core/cached_flow.h"

enum { AF_INET = 2, AF_INET6 = 10, FRAGMENT = 0x3fff, ND_FIRST = 133, ND_LAST = 137, UP = -1 };
enum { MOST_HEADERS = sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + sizeof(struct tcphdr) };

/* Sizes are the loader's. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, struct hs_cache_key);
    __type(value, struct hs_cache_entry);
} flows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, struct hs_cache_key6);
    __type(value, struct hs_cache_entry6);
} flows6 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, struct hs_cache_use);
} uses SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, struct hs_cache_control);
} control SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, struct hs_cache_counters);
} counters SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 8192);
    __type(key, struct hs_cache_prefix);
    __type(value, uint32_t);
} whose SEC(".maps");

/* Without CAP_PERFMON the verifier wants one way to each address: the compiler must not merge two counts into one that is
 * told which. */
#define COUNT(count, name)                                                                                             \
    do {                                                                                                               \
        (count)->name++;                                                                                               \
        asm volatile("" : : "i"(__builtin_offsetof(struct hs_cache_counters, name)));                                  \
    } while (0)

/* One packet on its way through the program. */
struct look {
    struct hs_cache_control *control;
    struct hs_cache_counters *count;
    uint64_t now_ns;
    uint32_t bytes;        /* of IP */
    uint32_t headers;      /* of these, those of each segment that a GSO packet is cut into */
    uint32_t sequence_end; /* TCP */
};

static __always_inline uint32_t whose_is(const struct hs_cache_prefix *prefix)
{
    const uint32_t *found = bpf_map_lookup_elem(&whose, prefix);

    return found ? *found : 0;
}

/* The judgement of datapath/classic_bpf.py. */
static __always_inline int keep(struct __sk_buff *skb, const struct hs_cache_prefix *src,
                                const struct hs_cache_prefix *dst, struct hs_cache_counters *count)
{
    uint32_t there = whose_is(dst), here;

    if (there & HS_WHOSE_HOST)
        return TC_ACT_UNSPEC;
    if (!(there & HS_WHOSE_OWNED)) {
        here = whose_is(src);
        if (there & (HS_WHOSE_GROUP | HS_WHOSE_LINK) || here & HS_WHOSE_LINK || !((here | there) & HS_WHOSE_PRIVATE))
            return TC_ACT_UNSPEC;
    }
    COUNT(count, kept);
    skb->mark = HS_CACHE_MARK;
    bpf_skb_change_type(skb, PACKET_OTHERHOST);
    return TC_ACT_OK;
}

static __always_inline int keep4(struct __sk_buff *skb, struct hs_cache_counters *count)
{
    struct hs_cache_prefix src = {.length = 128, .address = {0, 0, bpf_htonl(0xffff)}}, dst = src;

    if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + __builtin_offsetof(struct iphdr, saddr), &src.address[3], 4) ||
        bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + __builtin_offsetof(struct iphdr, daddr), &dst.address[3], 4))
        return TC_ACT_UNSPEC;
    return keep(skb, &src, &dst, count);
}

/* Neighbour discovery is the kernel's too, unless it is for what is owned. */
static __always_inline int keep6(struct __sk_buff *skb, struct hs_cache_counters *count)
{
    struct hs_cache_prefix src = {.length = 128}, dst = {.length = 128};
    uint8_t next = 0, type = 0;

    if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + __builtin_offsetof(struct ipv6hdr, saddr), src.address, 16) ||
        bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + __builtin_offsetof(struct ipv6hdr, daddr), dst.address, 16) ||
        bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + __builtin_offsetof(struct ipv6hdr, nexthdr), &next, 1))
        return TC_ACT_UNSPEC;
    if (next == IPPROTO_ICMPV6 && !bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + sizeof(struct ipv6hdr), &type, 1) &&
        type >= ND_FIRST && type <= ND_LAST && !(whose_is(&dst) & HS_WHOSE_OWNED))
        return TC_ACT_UNSPEC;
    return keep(skb, &src, &dst, count);
}

/* Ports of a whole TCP or UDP header behind IP, in a packet of the kind that needs no decision. */
static __always_inline bool read_tcp(struct look *look, const struct tcphdr *tcp, uint32_t ip_header)
{
    uint32_t header = tcp->doff * 4, flags = ((const uint8_t *)tcp)[13];

    if (header < sizeof *tcp || ip_header + header > look->bytes) {
        COUNT(look->count, miss_other);
        return false;
    }
    if ((flags & 0x17) != 0x10) { /* ACK, and neither FIN, SYN nor RST */
        COUNT(look->count, miss_flags);
        return false;
    }
    look->headers = ip_header + header;
    look->sequence_end = bpf_ntohl(tcp->seq) + look->bytes - look->headers;
    return true;
}

static __always_inline bool read_udp(struct look *look, const struct udphdr *udp, uint32_t ip_header)
{
    uint32_t length = bpf_ntohs(udp->len);

    if (length < sizeof *udp || ip_header + length > look->bytes) {
        COUNT(look->count, miss_other);
        return false;
    }
    look->headers = ip_header + sizeof *udp;
    return true;
}

/* Whether the packet, or what a GSO packet will be cut into, fits the next link, and the entry holds. */
static __always_inline bool is_hit(const struct __sk_buff *skb, const struct look *look, const struct hs_cache_way *way)
{
    uint32_t longest = skb->gso_size ? look->headers + skb->gso_size : look->bytes;

    if (way->epoch != look->control->epoch || way->comes_by != skb->ifindex) {
        COUNT(look->count, miss_epoch);
        return false;
    }
    if (way->gate < HS_CACHE_GATES && look->control->closed[way->gate / 64] >> way->gate % 64 & 1) {
        COUNT(look->count, miss_backend);
        return false;
    }
    if (longest > way->mtu) {
        COUNT(look->count, miss_too_big);
        return false;
    }
    return true;
}

static __always_inline void note_use(const struct __sk_buff *skb, const struct look *look,
                                     const struct hs_cache_way *way, uint8_t proto, int family)
{
    struct hs_cache_use *use = bpf_map_lookup_elem(&uses, &way->use);
    uint64_t *seen_ns = &look->control->seen_ns[way->side & 1][family];

    if (look->now_ns - *seen_ns > HS_CACHE_SEEN_NS)
        *seen_ns = look->now_ns;
    COUNT(look->count, hits);
    look->count->hit_bytes += look->bytes;
    if (!use)
        return;
    __sync_fetch_and_add(&use->packets, 1);
    __sync_fetch_and_add(&use->bytes, look->bytes);
    use->last_ns = look->now_ns;
    if (proto == IPPROTO_TCP && (!use->has_sequence || look->sequence_end - use->sequence <= HS_CACHE_LEAP)) {
        use->sequence = look->sequence_end;
        use->has_sequence = 1;
    }
}

/* Partial sums stay partial: only the helper knows which they are. Padding behind the IP length is not passed on. */
static __always_inline void finish(struct __sk_buff *skb, const struct look *look, const struct hs_cache_way *way,
                                   uint8_t proto, uint32_t ip_header)
{
    uint32_t at = sizeof(struct ethhdr) + ip_header, length = sizeof(struct ethhdr) + look->bytes;
    uint64_t flags = proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;

    at += proto == IPPROTO_UDP ? __builtin_offsetof(struct udphdr, check) : __builtin_offsetof(struct tcphdr, check);
    if (way->addresses_sum)
        bpf_l4_csum_replace(skb, at, 0, way->addresses_sum, flags | BPF_F_PSEUDO_HDR);
    if (way->ports_sum)
        bpf_l4_csum_replace(skb, at, 0, way->ports_sum, flags);
    if (skb->len > length && !skb->gso_size)
        bpf_skb_change_tail(skb, length, 0);
}

static __always_inline uint16_t fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)(sum + (sum >> 16));
}

/* The sum also for a TTL that is one less. */
static __always_inline void rewrite_ip(struct iphdr *ip, const struct hs_cache_entry *to)
{
    uint16_t before = *(const uint16_t *)&ip->ttl, after;

    ip->ttl--;
    after = *(const uint16_t *)&ip->ttl;
    ip->check = (uint16_t)~fold((uint32_t)(uint16_t)~ip->check + (uint16_t)~before + after + to->way.addresses_sum);
    ip->saddr = to->src_addr;
    ip->daddr = to->dst_addr;
}

/* UP, or the verdict of a hit. */
static __always_inline int forward4(struct __sk_buff *skb, struct look *look)
{
    struct ethhdr *ethernet = (void *)(long)skb->data;
    struct iphdr *ip = (void *)(ethernet + 1);
    struct tcphdr *l4 = (void *)(ip + 1); /* ports are where UDP has them */
    struct bpf_redir_neigh hop = {.nh_family = AF_INET};
    struct hs_cache_key key = {0};
    struct hs_cache_entry *to;
    void *end = (void *)(long)skb->data_end;
    uint8_t proto;

    if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->frag_off & bpf_htons(FRAGMENT) || ip->ttl <= 1)
        goto other;
    proto = ip->protocol;
    look->bytes = bpf_ntohs(ip->tot_len);
    if (look->bytes > skb->len - sizeof *ethernet)
        goto other;
    if (proto == IPPROTO_TCP) {
        if ((void *)(l4 + 1) > end)
            goto other;
        if (!read_tcp(look, l4, sizeof *ip))
            return UP;
    } else if (proto == IPPROTO_UDP) {
        if ((void *)l4 + sizeof(struct udphdr) > end)
            goto other;
        if (!read_udp(look, (void *)l4, sizeof *ip))
            return UP;
    } else {
        goto other;
    }
    key.src_addr = ip->saddr;
    key.dst_addr = ip->daddr;
    key.src_port = l4->source;
    key.dst_port = l4->dest;
    key.proto = proto;
    to = bpf_map_lookup_elem(&flows, &key);
    if (!to) {
        COUNT(look->count, miss_flow);
        return UP;
    }
    if (!is_hit(skb, look, &to->way))
        return UP;
    rewrite_ip(ip, to);
    l4->source = to->way.src_port;
    l4->dest = to->way.dst_port;
    note_use(skb, look, &to->way, proto, 0);
    finish(skb, look, &to->way, proto, sizeof *ip);
    hop.ipv4_nh = to->next_hop;
    return bpf_redirect_neigh(to->way.leaves_by, &hop, sizeof hop, 0);
other:
    COUNT(look->count, miss_other);
    return UP;
}

static __always_inline int forward6(struct __sk_buff *skb, struct look *look)
{
    struct ethhdr *ethernet = (void *)(long)skb->data;
    struct ipv6hdr *ip = (void *)(ethernet + 1);
    struct tcphdr *l4 = (void *)(ip + 1);
    struct bpf_redir_neigh hop = {.nh_family = AF_INET6};
    struct hs_cache_key6 key = {0};
    struct hs_cache_entry6 *to;
    void *end = (void *)(long)skb->data_end;
    uint8_t proto;

    if ((void *)(ip + 1) > end || ip->version != 6 || ip->hop_limit <= 1)
        goto other;
    proto = ip->nexthdr;
    look->bytes = sizeof *ip + bpf_ntohs(ip->payload_len);
    if (look->bytes > skb->len - sizeof *ethernet)
        goto other;
    if (proto == IPPROTO_TCP) {
        if ((void *)(l4 + 1) > end)
            goto other;
        if (!read_tcp(look, l4, sizeof *ip))
            return UP;
    } else if (proto == IPPROTO_UDP) {
        if ((void *)l4 + sizeof(struct udphdr) > end)
            goto other;
        if (!read_udp(look, (void *)l4, sizeof *ip))
            return UP;
    } else {
        goto other;
    }
    __builtin_memcpy(key.src_addr, &ip->saddr, 16);
    __builtin_memcpy(key.dst_addr, &ip->daddr, 16);
    key.src_port = l4->source;
    key.dst_port = l4->dest;
    key.proto = proto;
    to = bpf_map_lookup_elem(&flows6, &key);
    if (!to) {
        COUNT(look->count, miss_flow);
        return UP;
    }
    if (!is_hit(skb, look, &to->way))
        return UP;
    ip->hop_limit--;
    __builtin_memcpy(&ip->saddr, to->src_addr, 16);
    __builtin_memcpy(&ip->daddr, to->dst_addr, 16);
    l4->source = to->way.src_port;
    l4->dest = to->way.dst_port;
    note_use(skb, look, &to->way, proto, 1);
    finish(skb, look, &to->way, proto, sizeof *ip);
    __builtin_memcpy(hop.ipv6_nh, to->next_hop, 16);
    return bpf_redirect_neigh(to->way.leaves_by, &hop, sizeof hop, 0);
other:
    COUNT(look->count, miss_other);
    return UP;
}

SEC("tc")
int flow_cache(struct __sk_buff *skb)
{
    struct look look = {0};
    uint32_t first = 0;
    int verdict = UP;
    bool is6 = skb->protocol == bpf_htons(ETH_P_IPV6);

    if ((!is6 && skb->protocol != bpf_htons(ETH_P_IP)) || skb->pkt_type != PACKET_HOST || skb->vlan_present)
        return TC_ACT_UNSPEC;
    look.control = bpf_map_lookup_elem(&control, &first);
    look.count = bpf_map_lookup_elem(&counters, &first);
    if (!look.control || !look.count)
        return TC_ACT_UNSPEC;
    look.now_ns = bpf_ktime_get_boot_ns();
    if (look.now_ns >= look.control->lease_until_ns) {
        COUNT(look.count, no_lease);
    } else {
        /* Some drivers leave headers in pages. */
        if ((void *)(long)skb->data + MOST_HEADERS > (void *)(long)skb->data_end)
            bpf_skb_pull_data(skb, skb->len < MOST_HEADERS ? skb->len : MOST_HEADERS);
        verdict = is6 ? forward6(skb, &look) : forward4(skb, &look);
    }
    if (verdict != UP)
        return verdict;
    return is6 ? keep6(skb, look.count) : keep4(skb, look.count);
}

char tells_license[] SEC("license") = "Apache-2.0";
