-- hasync.lua: what two nodes say to each other, for Wireshark and tshark (Lua, Wireshark 4).
--
--   tshark -X lua_script:proto/hasync.lua -r capture.pcap -Y hasync
--
-- Heartbeats are those of pair.md §5, the stream is that of sync.md §4, its records those of sync.md §3. Every field is
-- called as on those pages (`hasync.generation`, `hasync.record.handle`), every finding as the rejection that a node
-- would count (`hasync.non_canonical`). What depends on what came before (a sequence gap, a stale version) is not judged.
-- Nothing here may raise: each byte is looked at only after the capture was asked whether it is there.

local hasync = Proto("hasync", "hasyncd pair protocol")

local PROTOCOL = 3
local FRAME_BYTES_MAX = 1048576
local HEARTBEAT_BYTES_MAX = 512
local TAG_BYTES = 16
local RECORD_BYTES_MIN, RECORD_BYTES_MAX = 12, 68

-- --- words -------------------------------------------------------------------------------------------------------

local ROLES = { [0] = "init", "backup", "primary", "fault" }
local TCP_STATES = { "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
    "SYN_SENT2" }
local OTHER_STATES = { "UNREPLIED", "REPLIED" }
local REASONS = { [0] = "closed", "timed out", "replaced", "operator" }
local KINDS = { "ADD", "UPDATE", "DEL", "COUNTERS", "ADD, both ends translated", "ADD, IPv6" }
local REFUSALS = { generation = true, capacity = true, protocol = true, role = true, features = true }

local TYPES = {}
local FRAMES = { -- sync.md §4: the fields behind the type, in order
    { "HELLO", "protocol", "node", "boot_id", "generation", "config_hash", "capacity", "seed", "log_next",
        "protocol_min", "features", "resume_from" },
    { "HELLO_REPLY", "protocol", "node", "boot_id", "generation", "log_boot_id", "installed", "synced",
        "features", "window", "digests" },
    { "REFUSE", "reason" },
    { "RESUME", "generation", "next" },
    { "SYNC_BEGIN", "generation", "next", "flow_count", "suspects" },
    { "DELTAS", "generation", "first", "count", "records" },
    { "SYNC_END", "generation", "sequence", "flow_count", "digest" },
    { "LEAVING", "generation", "sequence", "handover" },
    { "OFFER", "generation", "count", "records" },
    { "MEMBERS", "generation", "service", "ring_generation", "members" },
}
local HEARTBEAT = { -- pair.md §5
    "protocol", "node", "boot_id", "counter", "role", "generation", "priority", "flags", "sent_ns", "echo_boot_id",
    "echo_sent_ns", "heard_ms", "ack_boot_id", "ack_sequence", "head_sequence", "flow_count", "digest_sequence",
    "digest", "config_hash", "ring_generations", "at_risk", "at_risk_oldest_ms",
}
local HEARTBEAT_LATER = { {}, { "fitness", "young" }, { "tables" } } -- behind them, from version 1, 2, … on
for kind, frame in ipairs(FRAMES) do TYPES[kind] = frame[1] end

-- --- fields ------------------------------------------------------------------------------------------------------

local U32, NO_LIMIT = 4294967295, 2 ^ 64

-- How each is written (`as`), and the integers that it may be.
local VALUES = {
    protocol = { as = "integer" }, node = { as = "text" }, boot_id = { as = "integer", hex = true },
    generation = { as = "integer" }, config_hash = { as = "bytes", size = 8 },
    capacity = { as = "integer", least = 1, most = U32 }, seed = { as = "bytes", size = 16 },
    log_next = { as = "integer", least = 1 }, log_boot_id = { as = "integer", hex = true },
    protocol_min = { as = "integer", least = 1 }, features = { as = "integer", hex = true },
    resume_from = { as = "integer", least = 1 }, digests = { as = "bytes", most = 524288, unit = 8 },
    suspects = { as = "bytes", most = 8192 }, window = { as = "integer", least = 1, most = U32 }, installed = { as = "integer" }, synced = { as = "boolean" }, reason = { as = "text" },
    next = { as = "integer", least = 1 }, flow_count = { as = "integer" }, first = { as = "integer", least = 1 },
    count = { as = "integer", least = 1, most = U32 }, records = { as = "bytes" }, sequence = { as = "integer" },
    digest = { as = "integer", hex = true }, handover = { as = "boolean" }, counter = { as = "integer" },
    role = { as = "integer", most = 3, words = ROLES }, priority = { as = "integer" },
    flags = { as = "integer", most = 63 }, sent_ns = { as = "integer" }, echo_boot_id = { as = "integer", hex = true },
    echo_sent_ns = { as = "integer" }, heard_ms = { as = "integer", most = U32 },
    ack_boot_id = { as = "integer", hex = true }, ack_sequence = { as = "integer" }, head_sequence = { as = "integer" },
    digest_sequence = { as = "integer" }, ring_generations = { as = "list", most = U32 },
    at_risk = { as = "integer", most = U32 }, at_risk_oldest_ms = { as = "integer", most = U32 },
    fitness = { as = "integer", most = 1000 }, young = { as = "integer", most = 1 },
    tables = { as = "integer", hex = true }, service = { as = "text" },
    ring_generation = { as = "integer", least = 1, most = U32 }, members = { as = "bytes", most = 34816, unit = 34 },
}

local field = {
    seal = ProtoField.bytes("hasync.seal", "seal"),
    heartbeat = ProtoField.none("hasync.heartbeat", "heartbeat"),
    frame = ProtoField.none("hasync.frame", "frame"),
    length = ProtoField.uint32("hasync.length", "length"),
    type = ProtoField.uint64("hasync.type", "type", base.DEC, TYPES),
    further = ProtoField.bytes("hasync.further", "further element"),
    leaving = ProtoField.bool("hasync.flags.leaving", "leaving"),
    ready = ProtoField.bool("hasync.flags.ready", "ready"),
    solo = ProtoField.bool("hasync.flags.solo", "solo"),
    hears_sync = ProtoField.bool("hasync.flags.hears_sync", "hears_sync"),
    hears_inside = ProtoField.bool("hasync.flags.hears_inside", "hears_inside"),
    hears_outside = ProtoField.bool("hasync.flags.hears_outside", "hears_outside"),
}
for name, value in pairs(VALUES) do
    local abbr = "hasync." .. name
    if value.as == "integer" or value.as == "list" then
        field[name] = ProtoField.uint64(abbr, name, value.hex and base.HEX or base.DEC, value.words)
    else
        field[name] = ({ text = ProtoField.string, bytes = ProtoField.bytes, boolean = ProtoField.bool })[value.as](abbr, name)
    end
end

local function record_field(make, name, ...) return make("hasync.record." .. name, name, ...) end
local record = { record = ProtoField.none("hasync.record", "record") }
for _, name in ipairs { "state", "zero" } do record[name] = record_field(ProtoField.uint16, name) end
for _, name in ipairs { "version", "timeout_s", "src_port", "dst_port", "nat_port", "public_port" } do
    record[name] = record_field(ProtoField.uint16, name)
end
for _, name in ipairs { "handle", "packets", "reply_packets" } do record[name] = record_field(ProtoField.uint32, name) end
for _, name in ipairs { "bytes", "reply_bytes", "sequence" } do record[name] = record_field(ProtoField.uint64, name) end
for _, name in ipairs { "src_addr", "dst_addr", "nat_addr", "public_addr" } do
    record[name] = record_field(ProtoField.ipv4, name)
    record[name .. "6"] = ProtoField.ipv6("hasync.record." .. name .. "6", name)
end
record.kind = record_field(ProtoField.uint8, "kind", base.DEC, KINDS)
record.reason = record_field(ProtoField.uint8, "reason", base.DEC, REASONS)
record.flags = record_field(ProtoField.uint8, "flags", base.HEX)
for mask, name in pairs { [1] = "dnat", [2] = "both_directions", [4] = "udp", [8] = "icmp" } do
    record[name] = ProtoField.bool("hasync.record.flags." .. name, name, 8, nil, mask)
end

hasync.fields = {}
for _, group in ipairs { field, record } do
    for _, each in pairs(group) do table.insert(hasync.fields, each) end
end

-- The rejections of sync.md §9 that bytes alone can earn.
local finding = {}
for name, text in pairs {
    oversized = "longer than a frame, or a heartbeat, may be", malformed = "no msgpack array, or cut short",
    non_canonical = "does not encode again to the same bytes", unknown_type = "there is no such frame",
    unknown_protocol = "there is no such version", bad_field = "not what this field may be",
    count_mismatch = "the records do not add up to count", unknown_kind = "there is no such record",
    record_truncated = "the record is cut short", nonzero_padding = "unused bytes must be 0",
    bad_state = "a state that this protocol does not have",
    bad_address = "no host's address beyond its link, or a translation that there is not",
} do
    finding[name] = ProtoExpert.new("hasync." .. name, name .. ": " .. text, expert.group.MALFORMED, expert.severity.ERROR)
end
hasync.experts = {}
for _, each in pairs(finding) do table.insert(hasync.experts, each) end

hasync.prefs.ports = Pref.range("Ports of the pair", "7077", "peer.listen: heartbeats over UDP, the stream over TCP", 65535)
hasync.prefs.anywhere = Pref.bool("Look at other ports too", true, "takes what looks like a heartbeat or a frame")

local function reject(item, name) item:add_proto_expert_info(finding[name]) end

-- --- msgpack, as proto/README.md has it --------------------------------------------------------------------------

local INTEGERS = { [0xcc] = 1, [0xcd] = 2, [0xce] = 4, [0xcf] = 8 }
local LEAST = { [1] = 128, [2] = 256, [4] = 65536, [8] = 4294967296 } -- what the next shorter form cannot say
local TEXTS, BYTES = { [0xd9] = 1, [0xda] = 2, [0xdb] = 4 }, { [0xc4] = 1, [0xc5] = 2, [0xc6] = 4 }
local ARRAYS = { [0xdc] = 2, [0xdd] = 4 }
local OTHERS = { [0xc0] = 0, [0xca] = 4, [0xcb] = 8, [0xd0] = 1, [0xd1] = 2, [0xd2] = 4, [0xd3] = 8 } -- nil, float, signed
local DEEPEST, ELEMENTS_MAX = 2, 256

local function big_endian(tvb, at, size)
    if size < 8 then return tvb(at, size):uint() end
    return tvb(at, 4):uint() * 4294967296 + tvb(at + 4, 4):uint()
end

local read

-- `at` is where the first of `count` elements begins. Returns them and where they end; nil where the bytes end before.
local function read_elements(tvb, at, count, depth)
    local items = {}
    if count > ELEMENTS_MAX or depth > DEEPEST then return nil end
    for _ = 1, count do
        local item = read(tvb, at, depth)
        if not item then return nil end
        table.insert(items, item)
        at = item.from + item.size
    end
    return items, at
end

-- A head byte, `width` bytes of length and then so many. Shorter lengths have shorter forms: `least`.
local function read_sized(tvb, at, width, as, least)
    if at + 1 + width > tvb:len() then return nil end
    local length = big_endian(tvb, at + 1, width)
    if at + 1 + width + length > tvb:len() then return nil end
    return { as = as, from = at, size = 1 + width + length, body = at + 1 + width, length = length, shortest = length >= least }
end

-- One value: {as, from, size, shortest, …}, or nil where it is cut short or no msgpack that may stand here.
function read(tvb, at, depth)
    if at >= tvb:len() then return nil end
    local head = tvb(at, 1):uint()
    local item = { from = at, size = 1, shortest = true, as = "other" }
    if head < 0x80 then
        item.as, item.number = "integer", head
    elseif head == 0xc2 or head == 0xc3 then
        item.as, item.truth = "boolean", head == 0xc3
    elseif INTEGERS[head] then
        local width = INTEGERS[head]
        if at + 1 + width > tvb:len() then return nil end
        item.as, item.size, item.number = "integer", 1 + width, big_endian(tvb, at + 1, width)
        item.exact = width == 8 and tvb(at + 1, 8):uint64() or nil
        item.shortest = item.number >= LEAST[width]
    elseif head >= 0xa0 and head <= 0xbf then
        item.as, item.length, item.body, item.size = "text", head - 0xa0, at + 1, 1 + head - 0xa0
    elseif TEXTS[head] then
        return read_sized(tvb, at, TEXTS[head], "text", ({ 32, 256, [4] = 65536 })[TEXTS[head]])
    elseif BYTES[head] then
        return read_sized(tvb, at, BYTES[head], "bytes", ({ 0, 256, [4] = 65536 })[BYTES[head]])
    elseif (head >= 0x90 and head <= 0x9f) or ARRAYS[head] then
        local width = ARRAYS[head] or 0
        if at + 1 + width > tvb:len() then return nil end
        local count = width == 0 and head - 0x90 or big_endian(tvb, at + 1, width)
        local items, stop = read_elements(tvb, at + 1 + width, count, depth + 1)
        if not items then return nil end
        item.as, item.items, item.size = "list", items, stop - at
        item.shortest = width == 0 or count >= ({ [2] = 16, [4] = 65536 })[width]
    elseif OTHERS[head] then
        item.size = 1 + OTHERS[head]
    elseif head < 0xe0 then
        return nil -- maps, extensions, and what msgpack never uses
    end
    return at + item.size <= tvb:len() and item or nil
end

local function is_shortest(item)
    for _, inner in ipairs(item.items or {}) do
        if not is_shortest(inner) then return false end
    end
    return item.shortest
end

-- --- records: sync.md §3 -----------------------------------------------------------------------------------------

local function take(tree, tvb, ...)
    local at = 12
    for _, part in ipairs { ... } do
        local name, size = part[1], part[2]
        tree:add(record[name], tvb(at, size))
        at = at + size
    end
end

local V4 = { { "src_addr", 4 }, { "dst_addr", 4 }, { "src_port", 2 }, { "dst_port", 2 }, { "nat_addr", 4 },
    { "nat_port", 2 }, { "zero", 2 } }
local V6 = { { "src_addr6", 16 }, { "dst_addr6", 16 }, { "nat_addr6", 16 }, { "src_port", 2 }, { "dst_port", 2 },
    { "nat_port", 2 }, { "zero", 2 } }
local COUNTS = { { "packets", 4 }, { "bytes", 8 }, { "reply_packets", 4 }, { "reply_bytes", 8 } }
local BOTH = { { "public_addr", 4 }, { "public_port", 2 }, { "zero", 2 } }
for index = #V4, 1, -1 do table.insert(BOTH, 1, V4[index]) end
local LAYOUTS = { { size = 32, V4 }, { size = 12, {} }, { size = 12, {} }, { size = 36, COUNTS }, { size = 40, BOTH }, { size = 68, V6 } }
local STATEFUL = { [1] = true, [2] = true, [5] = true, [6] = true }
local HAS_TUPLES = { [1] = true, [5] = true, [6] = true }

local function uint(tvb, at, size) return tvb(at, size):uint() end

local function is_padded(tvb, kind, icmp)
    if uint(tvb, 3, 1) ~= 0 then return false end
    if not STATEFUL[kind] and (uint(tvb, 2, 1) ~= 0 or uint(tvb, 10, 2) ~= 0) then return false end
    if kind == 4 then return uint(tvb, 1, 1) == 0 end
    if kind == 6 then return uint(tvb, 66, 2) == 0 and not (icmp and uint(tvb, 62, 2) ~= 0) end
    if kind == 5 and (uint(tvb, 38, 2) ~= 0 or (icmp and uint(tvb, 28, 2) ~= 0)) then return false end
    return not HAS_TUPLES[kind] or (uint(tvb, 30, 2) == 0 and not (icmp and uint(tvb, 22, 2) ~= 0))
end

local function is_state(tvb, kind, udp, icmp)
    local state, flags = uint(tvb, 1, 1), uint(tvb, 2, 1)
    if flags > 15 or (udp and icmp) or (kind == 5 and flags % 2 == 0) then return false end
    -- both ends are translated: nat_addr is not dst_addr, public_addr is not src_addr
    if kind == 5 and (uint(tvb, 24, 4) == uint(tvb, 16, 4) or uint(tvb, 32, 4) == uint(tvb, 12, 4)) then return false end
    if kind == 3 then return REASONS[state] ~= nil end
    if kind == 4 then return true end
    return ((udp or icmp) and OTHER_STATES or TCP_STATES)[state] ~= nil
end

-- One host's, and meant beyond its link (sync.md §3, kind 6).
local function is_host(tvb, at)
    local first = uint(tvb, at, 2)
    if first >= 0xff00 or (first >= 0xfe80 and first <= 0xfebf) then return false end
    local zeros = uint(tvb, at, 4) == 0 and uint(tvb, at + 4, 4) == 0 and uint(tvb, at + 8, 2) == 0
    local word = uint(tvb, at + 10, 2)
    return not (zeros and (word == 0 or word == 0xffff))
end

local function has_addresses(tvb, kind)
    if kind ~= 6 then return true end
    for at = 12, 44, 16 do
        if not is_host(tvb, at) then return false end
    end
    local same = tvb:raw(12, 16) == tvb:raw(44, 16) and tvb:raw(60, 2) == tvb:raw(64, 2)
    return uint(tvb, 2, 1) % 2 == 1 or same
end

local function tell(item, tvb, kind, udp, icmp)
    local state = uint(tvb, 1, 1)
    item:set_text(string.format("%s, handle %d, version %d", KINDS[kind], uint(tvb, 4, 4), uint(tvb, 8, 2)))
    if kind == 3 then item:append_text(", " .. (REASONS[state] or state)) end
    if not STATEFUL[kind] then return end
    if HAS_TUPLES[kind] then
        local wide, ports = kind == 6, kind == 6 and 60 or 20
        local function address(at)
            local range = tvb(at, wide and 16 or 4)
            return tostring(wide and range:ipv6() or range:ipv4())
        end
        item:append_text(string.format(", %s %s:%d > %s:%d, NAT %s:%d", udp and "UDP" or icmp and "ICMP" or "TCP",
            address(12), uint(tvb, ports, 2), address(wide and 28 or 16), uint(tvb, ports + 2, 2),
            address(wide and 44 or 24), uint(tvb, wide and 64 or 28, 2)))
    end
    local word = ((udp or icmp) and OTHER_STATES or TCP_STATES)[state] or state
    item:append_text(string.format(", %s, %d s", word, uint(tvb, 10, 2)))
end

-- `tvb` is one whole record.
local function dissect_record(tvb, tree, kind, sequence)
    local item = tree:add(record.record, tvb())
    local flags = uint(tvb, 2, 1)
    local udp, icmp = math.floor(flags / 4) % 2 == 1, math.floor(flags / 8) % 2 == 1
    tell(item, tvb, kind, udp, icmp)
    if sequence then item:add(record.sequence, sequence):set_generated() end -- an offered flow has none
    item:add(record.kind, tvb(0, 1))
    item:add(kind == 3 and record.reason or record.state, tvb(1, 1))
    local bits = item:add(record.flags, tvb(2, 1))
    for _, name in ipairs { "dnat", "both_directions", "udp", "icmp" } do bits:add(record[name], tvb(2, 1)) end
    item:add(record.handle, tvb(4, 4))
    item:add(record.version, tvb(8, 2))
    item:add(record.timeout_s, tvb(10, 2))
    take(item, tvb, table.unpack(LAYOUTS[kind][1]))
    if not is_padded(tvb, kind, icmp) then
        reject(item, "nonzero_padding")
    elseif not is_state(tvb, kind, udp, icmp) then
        reject(item, "bad_state")
    elseif not has_addresses(tvb, kind) then
        reject(item, "bad_address")
    end
end

local function dissect_records(tvb, tree, first, count)
    local at, found = 0, 0
    while at < tvb:len() and found < count do
        local kind = uint(tvb, at, 1)
        local layout = LAYOUTS[kind]
        if not layout then return reject(tree:add(record.record, tvb(at)), "unknown_kind") end
        if at + layout.size > tvb:len() then return reject(tree:add(record.record, tvb(at)), "record_truncated") end
        dissect_record(tvb(at, layout.size):tvb(), tree, kind, first and first + found)
        at, found = at + layout.size, found + 1
    end
    if at < tvb:len() or found < count then reject(tree, "count_mismatch") end
end

-- --- messages ----------------------------------------------------------------------------------------------------

local function is_node(text) return #text >= 1 and #text <= 64 and not text:find("[^A-Za-z0-9._-]") end

-- sync.md §4.4: one form, by rising ids, no address twice.
local function are_members(tvb)
    local last, addresses = 0, {}
    for at = 0, tvb:len() - 34, 34 do
        local id, port, weight = tvb(at, 4):uint(), tvb(at + 4, 2):uint(), tvb(at + 6, 2):uint()
        local family, state, step = tvb(at + 10, 1):uint(), tvb(at + 11, 1):uint(), tvb(at + 12, 1):uint()
        local address = tvb(at + 18, 16):raw() .. tvb(at + 4, 2):raw() .. family
        local short = family == 4 and tvb(at + 22, 12):raw() == string.rep("\0", 12)
        if id <= last or port == 0 or weight == 0 or state > 3 or step < 1 or step > 4 then return false end
        if tvb(at + 13, 1):uint() ~= 0 or not (short or family == 6) or addresses[address] then return false end
        last, addresses[address] = id, true
    end
    return true
end

local function fits(name, item, tvb)
    local value = VALUES[name]
    if item.as ~= value.as then return false end
    if item.as == "bytes" then
        local fitting = item.length <= (value.most or NO_LIMIT) and item.length % (value.unit or 1) == 0
        if name == "members" and fitting and item.length > 0 then return are_members(tvb(item.body, item.length):tvb()) end
        return fitting and (value.size == nil or item.length == value.size)
    end
    if item.as == "text" then
        local text = tvb(item.body, item.length):raw()
        return (name == "node" or name == "service") and is_node(text) or name == "reason" and REFUSALS[text] == true
    end
    for _, inner in ipairs(item.as == "list" and item.items or { item }) do
        if inner.as == "integer" and (inner.number < (value.least or 0) or inner.number > (value.most or NO_LIMIT)) then
            return false
        elseif item.as == "list" and inner.as ~= "integer" then
            return false
        end
    end
    return true
end

local function show(name, item, tvb, tree)
    local range = tvb(item.from, item.size)
    if item.as == "integer" then return tree:add(field[name], range, item.exact or UInt64.new(item.number)) end
    if item.as == "boolean" then return tree:add(field[name], range, item.truth) end
    if item.as == "list" then
        for _, inner in ipairs(item.items) do show(name, inner, tvb, tree) end
        return nil
    end
    return item.length > 0 and tree:add(field[name], tvb(item.body, item.length)) or nil
end

-- The elements behind `skip` as the fields `names`, as far as they are what they must be. Returns the items by name;
-- nil where that ended early.
local function dissect_fields(tvb, tree, items, skip, names)
    local by_name = {}
    for index, name in ipairs(names) do
        local item = items[index + skip]
        if not item then return reject(tree, "bad_field") end
        if not fits(name, item, tvb) then
            return reject(tree:add(field.further, tvb(item.from, item.size)):set_text(name), "bad_field")
        end
        local shown = show(name, item, tvb, tree)
        if name == "protocol" and item.number < 1 then return reject(shown, "unknown_protocol") end
        by_name[name] = item
    end
    if by_name.protocol_min and by_name.protocol_min.number > by_name.protocol.number then reject(tree, "bad_field") end
    if by_name.resume_from and by_name.resume_from.number > by_name.log_next.number + 1 then reject(tree, "bad_field") end
    for index = #names + skip + 1, #items do
        local further = tree:add(field.further, tvb(items[index].from, items[index].size))
        -- A later version may say more (sync.md §4.1).
        if not by_name.protocol or by_name.protocol.number <= PROTOCOL then reject(further, "bad_field") end
    end
    return by_name
end

-- The array that `tvb` is, as a list of items; nil, and said why, where it is none.
local function open_array(tvb, tree)
    local array = read(tvb, 0, 0)
    if not array or array.as ~= "list" then return reject(tree, "malformed") end
    if array.size ~= tvb:len() or not is_shortest(array) then reject(tree, "non_canonical") end
    return array.items
end

local function text_of(item, tvb) return item and item.length > 0 and tvb(item.body, item.length):string() or "?" end
local function number_of(item) return item and (item.exact and tostring(item.exact) or string.format("%d", item.number)) or "?" end

-- What a heartbeat of the version that `protocol` says must have.
local function heartbeat_fields(protocol)
    local names = { table.unpack(HEARTBEAT) }
    if not protocol or protocol.as ~= "integer" then return names end
    for version, later in ipairs(HEARTBEAT_LATER) do
        for _, name in ipairs(version <= protocol.number and later or {}) do table.insert(names, name) end
    end
    return names
end

local function dissect_heartbeat(tvb, tree)
    if tvb:len() > HEARTBEAT_BYTES_MAX then reject(tree, "oversized") end
    local items = open_array(tvb, tree)
    local said = items and dissect_fields(tvb, tree, items, 0, heartbeat_fields(items[1]))
    if not said then return "heartbeat" end
    local flags, range = said.flags.number, tvb(said.flags.from, said.flags.size)
    for bit, name in ipairs { "leaving", "ready", "solo", "hears_sync", "hears_inside", "hears_outside" } do
        tree:add(field[name], range, math.floor(flags / 2 ^ (bit - 1)) % 2 == 1)
    end
    return string.format("heartbeat %s, %s of generation %s, head %s, ack %s", text_of(said.node, tvb),
        ROLES[said.role.number], number_of(said.generation), number_of(said.head_sequence), number_of(said.ack_sequence))
end

-- One frame's body. Returns what the list of packets says of it.
local function dissect_frame(tvb, tree)
    local items = open_array(tvb, tree)
    local kind = items and items[1] and items[1].as == "integer" and items[1].number
    if not items then return "malformed" end
    if not FRAMES[kind] then
        reject(tree, "unknown_type")
        return "unknown"
    end
    tree:add(field.type, tvb(items[1].from, items[1].size), UInt64.new(kind))
    tree:append_text(", " .. TYPES[kind])
    local said = dissect_fields(tvb, tree, items, 1, { table.unpack(FRAMES[kind], 2) })
    if not said then return TYPES[kind] end
    if said.records then
        local length, count = said.records.length, said.count.number
        if length < count * RECORD_BYTES_MIN or length > count * RECORD_BYTES_MAX then
            reject(tree, "count_mismatch")
        else
            local first = said.first and (said.first.exact or UInt64.new(said.first.number))
            dissect_records(tvb(said.records.body, length):tvb(), tree, first, count)
        end
        if not said.first then return string.format("OFFER of %d", count) end
        return string.format("DELTAS %s+%d", number_of(said.first), count)
    end
    local number = said.next or said.sequence or said.log_next or said.installed
    local who = said.node and " " .. text_of(said.node, tvb) or said.reason and " " .. text_of(said.reason, tvb) or ""
    return TYPES[kind] .. who .. (number and " " .. number_of(number) or "")
end

-- --- datagrams and streams ---------------------------------------------------------------------------------------

local function begins_heartbeat(tvb, at) -- an array of 22 or more elements, the first of them a protocol below 128
    return tvb:len() >= at + 4 and uint(tvb, at, 2) == 0xdc00 and uint(tvb, at + 2, 1) >= #HEARTBEAT and uint(tvb, at + 3, 1) < 128
end

local function begins_frame(tvb)
    if tvb:len() < 6 then return false end
    local length, head, kind = uint(tvb, 0, 4), uint(tvb, 4, 1), uint(tvb, 5, 1)
    return length >= 2 and length <= FRAME_BYTES_MAX and FRAMES[kind] ~= nil and head >= 0x90 + #FRAMES[kind] and head <= 0x9f
end

local function dissect_datagram(tvb, pinfo, tree)
    pinfo.cols.protocol = "hasync"
    local item = tree:add(hasync, tvb())
    local body = item:add(field.heartbeat, tvb())
    if not begins_heartbeat(tvb, 0) and begins_heartbeat(tvb, TAG_BYTES) then
        item:add(field.seal, tvb(0, TAG_BYTES)) -- shown, not checked: the key is the pair's
        tvb = tvb(TAG_BYTES):tvb()
    end
    pinfo.cols.info = dissect_heartbeat(tvb, body)
    return tvb:len()
end

local function dissect_stream(tvb, pinfo, tree)
    local at, said, item = 0, {}, tree:add(hasync, tvb())
    pinfo.cols.protocol = "hasync"
    while at < tvb:len() do
        local left = tvb:len() - at
        local length = left >= 4 and uint(tvb, at, 4)
        if length and (length < 1 or length > FRAME_BYTES_MAX) then
            reject(item:add(field.length, tvb(at, 4)), "oversized") -- nothing behind it can be found again
            table.insert(said, "oversized")
            break
        end
        if not length or left < 4 + length then
            pinfo.desegment_offset = at
            pinfo.desegment_len = length and 4 + length - left or DESEGMENT_ONE_MORE_SEGMENT
            break
        end
        local frame = item:add(field.frame, tvb(at, 4 + length))
        frame:add(field.length, tvb(at, 4))
        table.insert(said, dissect_frame(tvb(at + 4, length):tvb(), frame))
        at = at + 4 + length
    end
    if #said > 0 then
        pinfo.cols.info = table.concat(said, " | ", 1, math.min(#said, 8)) .. (#said > 8 and " | …" or "")
    end
    return tvb:len()
end

-- A frame's length begins with a 0, a TLS record with its type (RFC 8446 §5.1): port 7077 carries either.
local function is_tls(tvb) return tvb:len() >= 2 and uint(tvb, 0, 1) >= 20 and uint(tvb, 0, 1) <= 23 and uint(tvb, 1, 1) == 3 end

local tls = Dissector.get("tls")

function hasync.dissector(tvb, pinfo, tree)
    if pinfo.port_type == 3 then return dissect_datagram(tvb, pinfo, tree) end -- 2 is TCP, 3 is UDP
    if is_tls(tvb) then return tls:call(tvb, pinfo, tree) end
    return dissect_stream(tvb, pinfo, tree)
end

local function seems_datagram(tvb, pinfo, tree)
    if not hasync.prefs.anywhere or not (begins_heartbeat(tvb, 0) or begins_heartbeat(tvb, TAG_BYTES)) then return false end
    dissect_datagram(tvb, pinfo, tree)
    return true
end

local function seems_stream(tvb, pinfo, tree)
    if not hasync.prefs.anywhere or not begins_frame(tvb) then return false end
    pinfo.conversation = hasync -- what follows need not begin with a frame
    dissect_stream(tvb, pinfo, tree)
    return true
end

local registered

local function register()
    for _, name in ipairs { "tcp.port", "udp.port", "tls.port" } do
        local ports = DissectorTable.get(name)
        if registered then ports:remove(registered, hasync) end
        ports:add(hasync.prefs.ports, hasync)
    end
    registered = hasync.prefs.ports
end

hasync.prefs_changed = register
register()
hasync:register_heuristic("udp", seems_datagram)
hasync:register_heuristic("tcp", seems_stream)
hasync:register_heuristic("tls", seems_stream)
