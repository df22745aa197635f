/* TCP tracking: all 120 cells of Linux's table (net/netfilter/nf_conntrack_proto_tcp.c), and where we differ. */
#include "core/tcp_state.h"

#include "check.h"

/* States by their letters: N none, s SYN_SENT, r SYN_RECV, E, F fin wait, C close wait, L last ack, T time wait,
 * X close, 2 SYN_SENT2; i ignore, - invalid. Columns: N s r E F C L T X 2. */
static const char order[] = "NsrEFCLTX2";

static const struct {
    enum hs_direction direction;
    enum hs_tcp_class class;
    const char *linux_cells;
    const char *ours;
} rows[] = {
    {HS_ORIGINAL, HS_CLASS_SYN, "ssiiiiiss2", "ssiiiiiss2"},
    {HS_ORIGINAL, HS_CLASS_SYNACK, "--r------r", "--r------r"},
    {HS_ORIGINAL, HS_CLASS_FIN, "--FFLLLTX-", "--FFLLLTX-"},
    /* Deviation 1: no pick-up of connections that were never seen to open. */
    {HS_ORIGINAL, HS_CLASS_ACK, "E-EECCTTX-", "--EECCTTX-"},
    {HS_ORIGINAL, HS_CLASS_RST, "-XXXXXXXXX", "-XXXXXXXXX"},
    {HS_ORIGINAL, HS_CLASS_NONE, "----------", "----------"},
    /* Deviation 2: the server's SYN reopens nothing; Linux forgets the flow and asks its rules, ours deny. */
    {HS_REPLY, HS_CLASS_SYN, "-2-----s-2", "-2-------2"},
    {HS_REPLY, HS_CLASS_SYNACK, "-riiiiiiir", "-riiiiiiir"},
    {HS_REPLY, HS_CLASS_FIN, "--FFLLLTX-", "--FFLLLTX-"},
    {HS_REPLY, HS_CLASS_ACK, "-irECCTTXi", "-irECCTTXi"},
    {HS_REPLY, HS_CLASS_RST, "-XXXXXXXXX", "-XXXXXXXXX"},
    {HS_REPLY, HS_CLASS_NONE, "----------", "----------"},
};

static enum hs_tcp_state state_of(char letter)
{
    const char *at = strchr(order, letter);

    return letter == 'i' ? HS_TCP_IGNORE : letter == '-' ? HS_TCP_INVALID : (enum hs_tcp_state)(at - order);
}

static const struct {
    int number;
    uint8_t flags;
    enum hs_tcp_class class;
} classes[] = {
    {1, 0x02, HS_CLASS_SYN},    {2, 0x12, HS_CLASS_SYNACK}, {3, 0x11, HS_CLASS_FIN},
    {4, 0x10, HS_CLASS_ACK},    {5, 0x18, HS_CLASS_ACK},    {6, 0x04, HS_CLASS_RST},
    {7, 0x14, HS_CLASS_RST},    {8, 0xc2, HS_CLASS_SYN},    {9, 0x42, HS_CLASS_SYN},
    {10, 0x22, HS_CLASS_SYN},   {11, 0x31, HS_CLASS_FIN},   {12, 0x30, HS_CLASS_ACK},
    /* No TCP sends these (Linux: tcp_valid_flags); scanners do. */
    {20, 0x00, HS_CLASS_NONE},  {21, 0x03, HS_CLASS_NONE},  {22, 0x06, HS_CLASS_NONE},
    {23, 0x29, HS_CLASS_NONE},  {24, 0x3f, HS_CLASS_NONE},  {25, 0x01, HS_CLASS_NONE},
    {26, 0x20, HS_CLASS_NONE},  {27, 0x05, HS_CLASS_NONE},  {28, 0x13, HS_CLASS_NONE},
    {29, 0x16, HS_CLASS_NONE},
};

/* After a takeover: packets may have passed that were never told. */
static const struct {
    int number;
    enum hs_direction direction;
    enum hs_tcp_class class;
    char state, next;
} liberal[] = {
    {1, HS_ORIGINAL, HS_CLASS_ACK, 's', 'E'},   {2, HS_REPLY, HS_CLASS_ACK, 's', 'E'},
    {3, HS_ORIGINAL, HS_CLASS_ACK, 'r', 'E'},   {4, HS_REPLY, HS_CLASS_ACK, 'r', 'E'},
    {5, HS_ORIGINAL, HS_CLASS_FIN, 's', 'F'},   {6, HS_REPLY, HS_CLASS_FIN, '2', 'F'},
    {7, HS_ORIGINAL, HS_CLASS_SYNACK, 's', 'i'}, {8, HS_REPLY, HS_CLASS_SYNACK, 's', 'r'},
    {9, HS_REPLY, HS_CLASS_SYN, 'E', 'i'},      {10, HS_ORIGINAL, HS_CLASS_ACK, 'E', 'E'},
    {11, HS_ORIGINAL, HS_CLASS_ACK, 'F', 'C'},  {12, HS_REPLY, HS_CLASS_RST, 's', 'X'},
    {13, HS_ORIGINAL, HS_CLASS_SYN, 's', 's'},  {14, HS_ORIGINAL, HS_CLASS_SYN, 'E', 'i'},
    {15, HS_ORIGINAL, HS_CLASS_NONE, 'E', '-'}, {16, HS_ORIGINAL, HS_CLASS_ACK, 'X', 'X'},
};

int main(void)
{
    int cells = 0, deviations = 0;

    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        for (int s = 0; s < HS_TCP_STATES; s++, cells++) {
            CHECK(r * 100 + (size_t)s,
                  hs_tcp_next(rows[r].direction, rows[r].class, (enum hs_tcp_state)s),
                  state_of(rows[r].ours[s]));
            deviations += rows[r].ours[s] != rows[r].linux_cells[s];
        }
    }
    CHECK(1, cells, 120);
    CHECK(2, deviations, 2);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        CHECK(classes[i].number, hs_tcp_classify(classes[i].flags), classes[i].class);
    for (size_t i = 0; i < sizeof liberal / sizeof *liberal; i++)
        CHECK(liberal[i].number,
              hs_tcp_next_liberal(liberal[i].direction, liberal[i].class, state_of(liberal[i].state)),
              state_of(liberal[i].next));
    return hs_check_result();
}
