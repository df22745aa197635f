/* SipHash-2-4 against the vectors that its authors published: key 00 01 … 0f, message 00 01 … (n - 1). SipHash-1-3
 * against CPython's hash of bytes, which it is: hash(bytes(range(16))) under PYTHONHASHSEED=0 (the key 0). */
#include "core/siphash.h"

#include "check.h"

static const struct {
    int length;
    const char *hash; /* as bytes, lowest first */
} vectors[] = {
    {0, "310e0edd47db6f72"},  {1, "fd67dc93c539f874"},  {2, "5a4fa9d909806c0d"},
    {3, "2d7efbd796666785"},  {4, "b7877127e09427cf"},  {5, "8da699cd64557618"},
    {6, "cee3fe586e46c9cb"},  {7, "37d1018bf50002ab"},  {8, "6224939a79f5f593"},
    {9, "b0e4a90bdf82009e"},  {10, "f3b9dd94c5bb5d7a"}, {11, "a7ad6b22462fb3f4"},
    {12, "fbe50e86bc8f1e75"}, {13, "903d84c02756ea14"}, {14, "eef27a8e90ca23f7"},
    {15, "e545be4961ca29a1"}, {16, "db9bc2577fcc2a3f"}, {17, "9447be2cf5e99a69"},
    {23, "c8ce5ccd8c030ca8"}, {24, "94af49f6c650adb8"}, {31, "42c341d8fa92d832"},
    {32, "ce7cf2722f512771"}, {47, "eb75095ccd986cd0"}, {62, "575ff28e60381be5"},
    {63, "724506eb4c328a95"},
};

int main(void)
{
    uint8_t bytes[64];

    for (int i = 0; i < 64; i++)
        bytes[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        uint8_t want[8];
        uint64_t value = 0;

        hs_hex(vectors[i].hash, want, sizeof want);
        for (int k = 7; k >= 0; k--)
            value = value << 8 | want[k];
        CHECK(vectors[i].length,
              hs_siphash(hs_seed_load(bytes), bytes, (size_t)vectors[i].length), value);
    }
    CHECK(100, hs_siphash_1_3((struct hs_seed){0, 0}, bytes), 0x8972188433a5c5b7);
    CHECK(101, hs_siphash_1_3(hs_seed_load(bytes), bytes), 0xcc4fdd1a7d908b66);
    return hs_check_result();
}
