-- wrk: one transaction a request, each with an id of its own, between two random accounts.
--
-- An id is a UUIDv7. Those of one thread ascend; those of two threads, or of two runs, differ by the thread's number and
-- by a salt in their last 48 bits, beside a counter.
--
-- Environment: BENCH_PATH, BENCH_HOST, BENCH_ACCOUNTS, BENCH_AMOUNT, BENCH_SALT (0 to 255).
-- Prints one line of JSON at the end: what wrk counted, and latencies in microseconds.

local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long microseconds; } bench_timeval;
int gettimeofday(bench_timeval *time, void *zone);
]]

local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

local now = ffi.new("bench_timeval")
local accounts = {}
local count = 0
local head, salt, amount

function init(args)
    local n = tonumber(os.getenv("BENCH_ACCOUNTS"))
    salt = tonumber(os.getenv("BENCH_SALT"))
    amount = os.getenv("BENCH_AMOUNT")
    for i = 1, n do
        accounts[i] = string.format("bench:%06d", i)
    end
    math.randomseed(salt * 64 + number)
    -- All bodies have one length, so the head is made once.
    local length = #body("00000000-0000-7000-8000-000000000000", accounts[1], accounts[2])
    head = "POST " .. os.getenv("BENCH_PATH") .. " HTTP/1.1\r\nHost: " .. os.getenv("BENCH_HOST")
        .. "\r\nContent-Type: application/json\r\nContent-Length: " .. length .. "\r\n\r\n"
end

function body(id, source, destination)
    return '{"id":"' .. id .. '","postings":[{"source":"' .. source .. '","destination":"' .. destination
        .. '","amount":' .. amount .. '}]}'
end

function request()
    ffi.C.gettimeofday(now, nil)
    count = count + 1
    local ms = tonumber(now.seconds) * 1000 + math.floor(tonumber(now.microseconds) / 1000)
    -- Variant bits, salt and thread in the fourth group and before; the counter fills the last.
    local id = string.format("%08x-%04x-7%03x-8%01x%02x-%012x", math.floor(ms / 65536), ms % 65536,
        math.floor(tonumber(now.microseconds) % 1000 * 4), number, salt, count)
    local source = math.random(#accounts)
    local destination = math.random(#accounts - 1)
    if destination >= source then
        destination = destination + 1
    end
    return head .. body(id, accounts[source], accounts[destination])
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests":%d,"duration_us":%d,"not_2xx":%d,"broken":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d}\n',
        summary.requests, summary.duration, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
