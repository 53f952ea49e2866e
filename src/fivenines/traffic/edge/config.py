"""From settings to HAProxy's configuration: pure, one function for each part of the file. For HAProxy 2.6 and later.

What stands behind one port is a *pool*: the ledger, and each of the user's services. A pool of HTTP has up to four
backends, and a request takes the first one that fits:

    NAME            the nodes of this region that are well; none left, the nearest other region's edge that is well
    NAME.here       those nodes only: for requests that another edge has sent on, so that none goes round
    NAME.elsewhere  other regions' edges first, then here: for writes, while this region is coming back. Its checks of
                    these edges count for NAME, too
    NAME.last       the nodes of this region, well or not: when nothing else is left. A check that is wrong about all
                    nodes, or a region that is cut off and can still be read from, never makes the edge refuse

Which requests are repeated at another node, and why, is told in `_what_is_safe` and `_budget`; how long each may take
in `_patience`; docs/edge.md has both as tables. What operators and controllers change, such as weights, is not in this
file: `runtime` changes it in the process, and a new process takes it over from the state file.
"""

import ipaddress
import math

import msgspec

from fivenines.traffic.edge.settings import EdgeSettings, Server, Service, TcpProxy, Timeouts

__all__ = [
    "ELSEWHERE",
    "FORWARDED",
    "HERE",
    "LAST",
    "LATENCY_BOUNDS_MS",
    "REPEATS",
    "SWITCH",
    "SWITCHES",
    "checked",
    "config",
    "unchecked",
]

HERE, ELSEWHERE, LAST = ".here", ".elsewhere", ".last"
"""What is added to the name of a pool."""
SWITCHES, SWITCH = "switches", "writes_elsewhere"
"""A backend that nothing is sent to: its one server is in maintenance, or not, and says where writes go."""
REPEATS = "repeats"
"""A table with one row for each pool: how much is asked and how much fails, and how long answers take."""
LATENCY_BOUNDS_MS = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""HAProxy keeps means only, and no quantiles: so it counts answers in steps of time, up to these and one beyond."""
FORWARDED = "Ledger-Edge"
"""A header of every request that an edge sends: the name of where it goes. Another edge is named by its region, so an
edge that finds its own region there knows that an edge has sent the request on. HAProxy sets it anew for each try, for
which server the next one goes to is not known before."""

_WEIGHT = 100  # of each server, so that weights are percents, and a slow start has a hundred steps
_HEAD_BYTES = 8 * 1024
"""Of a buffer, kept free of the body: for the head, and for what HAProxy notes beside."""
_DOWN_AT_ONCE = "observe layer4 error-limit 1 on-error mark-down"
"""One connection that cannot be had, and the server is out until its checks have found it well twice. So a try that
failed is never repeated where it failed, and when all nodes die at once, the third try is already that of another
region. Answers are not judged so (`observe layer7`): a node that sheds what is too much says 503 many times in a row,
and the load of one node after the other would fall on the rest. A 503 is repeated elsewhere, a node that hangs is found
by its checks, and one that answers badly or late is ejected by the controller, which sees all of them at once."""
_REPEATS_FLOOR = 20
_RETRY_ON = "conn-failure empty-response response-timeout junk-response 0rtt-rejected 503"
_JSON = "content-type application/json string"
_PROBLEMS = {
    400: ("bad_request", "This is not HTTP as we read it."),
    403: ("forbidden", "This is not allowed."),
    408: ("request_timeout", "The request was not whole in time."),
    500: ("edge_error", "The edge failed at this."),
    502: ("bad_gateway", "What served this request broke off; it may have been done."),
    503: ("nothing_serves", "Nothing serves this now."),
    504: ("gateway_timeout", "There was no answer in time; it may have been done."),
}


def config(settings: EdgeSettings) -> str:
    """Return the text of haproxy.cfg."""
    sections = [_global(settings), _defaults(settings), _statistics(settings), *_tables(settings), _switches()]
    sections += _ledger(settings)
    for service in settings.services:
        sections += _http_service(settings, service) if service.mode == "http" else _layer4(settings, service)
    for proxy in settings.tcp_proxies:
        sections += _layer4(settings, proxy)
    return "\n".join("\n    ".join(lines) + "\n" for lines in sections)


def checked(settings: EdgeSettings) -> str:
    """Return what stands behind the address of a node that is checked; also for one that joins while we run.

    There is no `on-marked-down`: requests in flight go on. A node is marked down when it says that it should get no
    more writes, or when it hangs. The first one still answers what it has. From the second one the usual timeout
    fetches the request back and repeats it, whereas HAProxy would answer 503 to all whose connection it cuts.
    """
    every, slow_start = _ms(settings.timeouts.check_every_s), _ms(settings.timeouts.slow_start_s)
    return (
        f"{unchecked(settings)} check inter {every} fastinter 200ms downinter {every} rise 2 fall 2 "
        f"slowstart {slow_start} {_DOWN_AT_ONCE}"
    )


def unchecked(settings: EdgeSettings) -> str:
    """Return what stands behind the address of a node in the last resort."""
    return f"weight {_WEIGHT} maxconn {settings.requests_max}"


# --- what all share --------------------------------------------------------------------------------------------------


def _global(settings: EdgeSettings) -> list[str]:
    lines = [
        "global",
        f"stats socket {settings.admin_socket} mode 600 level admin expose-fd listeners",
        "stats timeout 30s",
        f"maxconn {settings.connections_max + 256}",
        f"nbthread {settings.threads}",
        f"tune.bufsize {settings.buffer_bytes}",
        # A stream keeps the process before a reload alive; then it is cut, and its reader goes on where it was.
        f"hard-stop-after {_ms(settings.timeouts.stream_s + 5)}",
        "no strict-limits",
        # By default connections to nodes are kept only while a fifth of all descriptors is in use: under overload each
        # request would open one of its own, just when there is no time for that.
        "tune.pool-low-fd-ratio 80",
        "tune.pool-high-fd-ratio 90",
        "spread-checks 10",
        "log stdout format raw local0 info",
    ]
    return lines if settings.state_file is None else [*lines, f"server-state-file {settings.state_file}"]


def _defaults(settings: EdgeSettings) -> list[str]:
    times = settings.timeouts
    lines = [
        "defaults",
        "mode http",
        "balance leastconn",
        # A line for each request would cost more than the request. What failed, was repeated or cut is told; what took
        # longer than `answer_s` was repeated.
        "log global",
        "option dontlog-normal",
        "option dontlognull",
        "option abortonclose",
        f"maxconn {settings.connections_max}",
        f"timeout client {_ms(times.stream_s + 10)}",
        f"timeout connect {_ms(times.connect_s)}",
        f"timeout server {_ms(times.answer_s)}",
        f"timeout queue {_ms(times.queue_s)}",
        f"timeout check {_ms(times.check_s)}",
        f"timeout http-request {_ms(times.request_s)}",
        f"timeout http-keep-alive {_ms(times.idle_s)}",
        f"retries {times.repeats}",
        "option redispatch 1",
        "default-server init-addr last,libc,none",
    ]
    if settings.state_file is not None:
        lines.append("load-server-state-from-file global")
    for status, (name, title) in _PROBLEMS.items():
        is_temporary = status in {408, 502, 503, 504}
        body = _problem(status, name, title, "trying again with the same ids is safe" if is_temporary else None)
        lines.append(f"http-error status {status} {body}" + (" hdr Retry-After 1" if is_temporary else ""))
    return lines


def _statistics(settings: EdgeSettings) -> list[str]:
    return [
        "frontend statistics",
        f"bind {_at(settings.host, settings.statistics_port)}",
        "no log",
        "http-request use-service prometheus-exporter if { path /metrics }",
        "http-request redirect location /statistics if { path / }",
        "stats enable",
        "stats uri /statistics",
        "stats show-legends",
    ]


def _tables(settings: EdgeSettings) -> list[list[str]]:
    columns = f"http_req_rate(10s),http_fail_rate(10s),gpc({len(LATENCY_BOUNDS_MS) + 1})"
    tables = [[f"backend {REPEATS}", f"stick-table type string len 64 size 1k expire 1h store {columns}"]]
    if (limit := settings.rate_limit) is not None:
        period, expire = f"{limit.period_ms}ms", f"{max(60_000, 2 * limit.period_ms)}ms"
        tables.append(
            ["backend clients", f"stick-table type ipv6 size 100k expire {expire} store http_req_rate({period})"]
        )
    return tables


def _switches() -> list[str]:
    return [f"backend {SWITCHES}", f"server {SWITCH} 127.0.0.1:1 disabled"]


# --- pools of HTTP ---------------------------------------------------------------------------------------------------


def _ledger(settings: EdgeSettings) -> list[list[str]]:
    front = [
        *_front(settings, "ledger", settings.port),
        *_what_is_safe(),
        *_what_is_kept(settings),
        *_patience(settings.timeouts),
        *_in_vain(settings.timeouts),
    ]
    if settings.elsewhere:
        front += [
            "acl is_write method POST PATCH PUT DELETE",
            f"acl sends_writes_on srv_is_up({SWITCHES}/{SWITCH})",
            f"acl has_elsewhere nbsrv(ledger{ELSEWHERE}) gt 0",
            f"use_backend ledger{ELSEWHERE} if is_write sends_writes_on !is_forwarded has_elsewhere",
        ]
    front += _ways("ledger")
    return [front, *_backends(settings, "ledger", settings.nodes, settings.elsewhere, "/ready", settings.timeouts)]


def _http_service(settings: EdgeSettings, service: Service) -> list[list[str]]:
    times = settings.timeouts
    if service.answer_s is not None:
        # A service may need longer than what nests below our client's patience: its clients are not ours.
        tries_s = service.answer_s * (times.repeats + 1)
        times = msgspec.structs.replace(
            times,
            answer_s=service.answer_s,
            elsewhere_s=max(times.elsewhere_s, tries_s * 1.1),
            client_try_s=max(times.client_try_s, tries_s * 1.2),
        )
    safe = "if is_safe_by_method or has_key" if not service.repeat_safe else ""
    front = [
        *_front(settings, service.name, service.port),
        "acl is_safe_by_method method GET HEAD OPTIONS PUT DELETE",
        "acl has_key req.hdr(Idempotency-Key) -m found",
        f"http-request set-var(txn.safe) bool(true) {safe}".rstrip(),
        *_what_is_kept(settings),
        *_in_vain(times),
        *_ways(service.name),
    ]
    pool = _backends(settings, service.name, service.servers, service.elsewhere, service.health_path, times)
    return [front, *pool]


def _front(settings: EdgeSettings, pool: str, port: int) -> list[str]:
    """Begin the frontend of a pool: who asks, under which id, and whether it may."""
    trusted = dict.fromkeys((*settings.trusted, *(each.host for each in settings.elsewhere if _is_address(each.host))))
    no_nodes = _problem(503, "no_nodes", "This edge has no node that is well.")
    lines = [
        f"frontend {pool}",
        f"bind {_at(settings.host, port)}",
        f"log-format '{_log_format(settings.region, pool)}'",
        "option http-buffer-request",
        "option http-no-delay",
        "option forwardfor",
        # After a reload the old process answers one more request on each connection, and only then closes it.
        "option idle-close-on-response",
        # For edges, balancers and whoever started us: whether there is a node of our own, and whether we are there.
        f"acl has_nodes nbsrv({pool}{HERE}) gt 0",
        "acl asks_for_ready path /edge/ready",
        "http-request set-log-level silent if asks_for_ready",
        f"http-request return status 200 {_JSON} '{{\"ready\":true}}' if asks_for_ready has_nodes",
        f"http-request return status 503 {no_nodes} hdr Retry-After 1 if asks_for_ready",
        f"http-request return status 200 {_JSON} '{{\"live\":true}}' if {{ path /edge/live }}",
        # What a client says of itself is not believed; what edges and balancers say is.
        f"acl is_trusted {'src ' + ' '.join(trusted) if trusted else 'always_false'}",
        "http-request del-header X-Forwarded-For unless is_trusted",
        "http-request del-header Forwarded unless is_trusted",
        "http-request add-header Forwarded for=%[src] if { src 0.0.0.0/0 }",
        "http-request add-header Forwarded 'for=\"[%[src]]\"' unless { src 0.0.0.0/0 }",
        f"acl is_forwarded req.hdr({FORWARDED}) -m str {settings.region}",
        "acl has_good_id req.hdr(X-Request-Id) -m reg ^[A-Za-z0-9_.:/+=-]{1,128}$",
        "http-request set-var(txn.id) req.hdr(X-Request-Id) if has_good_id",
        "http-request set-var(txn.id) uuid unless has_good_id",
        "http-request set-header X-Request-Id %[var(txn.id)]",
        "http-request set-var(txn.path) path",
        "http-after-response set-header X-Request-Id %[var(txn.id)] if { var(txn.id) -m found }",
    ]
    if settings.headers:
        # Of a request that was sent on it is the other region's edge that says who served it.
        lines.append(
            f"http-after-response set-header X-Region {settings.region} unless {{ res.hdr(X-Region) -m found }}"
        )
    if (limit := settings.rate_limit) is not None:
        detail = f"at most {limit.burst} at once and {limit.requests_per_s:g} a second; nothing was done"
        too_many = _problem(429, "too_many_requests", "This client asks for more than it may.", detail)
        wait = f"hdr Retry-After {max(1, math.ceil(1 / limit.requests_per_s))}"
        lines += [
            "http-request track-sc0 src table clients unless is_trusted",
            f"acl is_over_limit sc_http_req_rate(0) gt {limit.burst}",
            f"http-request return status 429 {too_many} {wait} if !is_trusted is_over_limit",
        ]
    return [*lines, *_budget(pool), *_stopwatch()]


def _budget(pool: str) -> list[str]:
    """Give repeats a budget, so that they cannot become a storm.

    A node's 503 says that it did nothing, and HAProxy repeats either all of them or none. Where the node alone is
    unwell (it is starting anew, it left the majority, its disk is damaged), another one will do. Where all have as much
    as they can bear, or the journal is full, a repeat only adds to it. The difference shows in what comes of repeats:
    once more than one in ten of the last ten seconds' requests, and more than twenty, failed in spite of them, they
    are given up, those of connections that failed apart, until less fail again.
    """
    return [
        f"http-request track-sc1 str({pool}) table {REPEATS}",
        "http-request set-var(txn.failed) sc_http_fail_rate(1)",
        "acl is_in_vain sc_http_req_rate(1),div(10),sub(txn.failed) lt 0",
        f"acl is_no_chance var(txn.failed) -m int gt {_REPEATS_FLOOR}",
    ]


def _stopwatch() -> list[str]:
    """Count how long ordinary answers take, repeats among them: not those that may take their time, such as a poll."""
    lines = [
        "http-request set-var(txn.began) date(0,ms)",
        "http-response set-var(txn.took) date(0,ms),sub(txn.began)",
        "acl has_wait var(txn.wait) -m found",
    ]
    least = 0
    for step, bound in enumerate(LATENCY_BOUNDS_MS):
        lines.append(f"http-response sc-inc-gpc({step},1) if !has_wait {{ var(txn.took) -m int {least}:{bound} }}")
        least = bound + 1
    lines.append(
        f"http-response sc-inc-gpc({len(LATENCY_BOUNDS_MS)},1) if !has_wait {{ var(txn.took) -m int ge {least} }}"
    )
    return lines


def _what_is_safe() -> list[str]:
    """Say which requests of the ledger may be sent a second time: those of which the second changes nothing.

    Reads; what is named by its nature, as an account that is opened; a transaction or a change of an account with an
    id. One without gets its id from the node, so a second one would be another transaction, or would undo what somebody
    changed between the two. An array would have to be read whole to
    know: whoever made all its ids, as our client does, says so with `Ledger-Retry: safe`.
    """
    return [
        "acl is_safe_by_method method GET HEAD OPTIONS PUT",
        "acl is_post method POST",
        "acl is_patch method PATCH",
        "acl has_ids_by_nature path /v1/accounts /v1/assets",
        "acl is_of_transactions path /v1/transactions",
        "acl is_said_to_be_safe req.hdr(Ledger-Retry) -m str safe",
        "acl has_id req.body,json_query('$.id') -m found",
        "http-request set-var(txn.safe) bool(true) if is_safe_by_method",
        "http-request set-var(txn.safe) bool(true) if is_said_to_be_safe is_post or is_said_to_be_safe is_patch",
        "http-request set-var(txn.safe) bool(true) if is_post has_ids_by_nature or is_post is_of_transactions has_id",
        "http-request set-var(txn.safe) bool(true) if is_patch has_id",
    ]


def _what_is_kept(settings: EdgeSettings) -> list[str]:
    """Take a request that is larger than a buffer for one that is not safe: there is no copy of it to send again."""
    return [
        f"acl is_large req.body_size gt {settings.buffer_bytes - _HEAD_BYTES}",
        "http-request set-var(txn.safe) bool(false) if is_large",
        "acl is_safe var(txn.safe) -m bool",
    ]


def _patience(times: Timeouts) -> list[str]:
    """Say how long the ledger's answer is waited for, where that is not as usual.

    A read with `at_least` is as usual, although a node lets it wait for 5 s: it waits because a node is behind, and
    the next one may well be ahead.
    """
    return [
        "acl is_stream path /v1/platform/snapshot",
        "acl is_stream path_beg /v1/events",
        "acl looks_back path_reg ^/v1/accounts/[^/]*/history$",
        f"http-request set-var(txn.wait) int({_int_ms(times.slow_s)}) if looks_back or !is_safe",
        f"http-request set-var(txn.wait) int({_int_ms(times.stream_s)}) if is_stream",
    ]


def _in_vain(times: Timeouts) -> list[str]:
    """Repeat nothing where the budget is spent, and wait for the one try as long as for all."""
    tries = _int_ms(times.answer_s * (times.repeats + 1))
    return [
        "http-request set-var(txn.safe) bool(false) if is_in_vain is_no_chance",
        f"http-request set-var(txn.wait) int({tries}) if is_in_vain is_no_chance !has_wait",
    ]


def _ways(pool: str) -> list[str]:
    """End the frontend of a pool: which backend a request goes to."""
    return [
        f"use_backend {pool}{HERE} if is_forwarded has_nodes",
        f"use_backend {pool}{LAST} if is_forwarded",
        f"use_backend {pool} if {{ nbsrv({pool}) gt 0 }}",
        f"default_backend {pool}{LAST}",
    ]


def _backends(
    settings: EdgeSettings,
    pool: str,
    nodes: tuple[Server, ...],
    elsewhere: tuple[Server, ...],
    health_path: str | None,
    times: Timeouts,
) -> list[list[str]]:
    health = [f"option httpchk GET {health_path}"] if health_path else []
    common = [
        "option http-no-delay",
        f"timeout server {_ms(times.answer_s)}",
        f"retry-on {_RETRY_ON}",
        f"http-send-name-header {FORWARDED}",
        "http-request disable-l7-retry unless { var(txn.safe) -m bool }",
        "http-request set-timeout server var(txn.wait) if { var(txn.wait) -m found }",
    ]
    if settings.headers:
        common.append("http-response set-header X-Served-By %[srv_name] unless { res.hdr(X-Served-By) -m found }")
    # An edge to which we send on tries as often as we do, so it is waited for longer.
    far = f"http-request set-timeout server {_ms(times.elsewhere_s)} unless {{ var(txn.wait) -m found }}"
    # So that the other edge sees who asks, also where a machine has several addresses.
    source = f" source {settings.host}" if _is_one_address(settings.host) else ""
    here = [f"server {each.name} {each.address} " for each in nodes]
    tracked = [f"{line}{unchecked(settings)} track {pool}/{each.name}" for line, each in zip(here, nodes, strict=True)]
    there = [f"server {each.name} {each.address} weight {_WEIGHT}{source} " for each in elsewhere]
    backends = [
        [f"backend {pool}", *health, *common, *(line + checked(settings) for line in here)],
        [f"backend {pool}{HERE}", *common, *tracked],
        [f"backend {pool}{LAST}", *common, *(line + unchecked(settings) for line in here)],
    ]
    if not elsewhere:
        return backends
    probed = [f"{line}check inter 1s fastinter 200ms rise 2 fall 2 {_DOWN_AT_ONCE}" for line in there]
    backends[0] += [
        f"{far} {{ nbsrv({pool}{HERE}) eq 0 }}",
        *(f"{line}track {pool}{ELSEWHERE}/{each.name} backup" for line, each in zip(there, elsewhere, strict=True)),
    ]
    return [
        *backends,
        [
            f"backend {pool}{ELSEWHERE}",
            "option httpchk GET /edge/ready",
            *common,
            far,
            probed[0],
            *(f"{line} backup" for line in (*probed[1:], *tracked)),
        ],
    ]


# --- layer 4 ---------------------------------------------------------------------------------------------------------


def _layer4(settings: EdgeSettings, proxy: Service | TcpProxy) -> list[list[str]]:
    """Lead a port on. Here a server that is down has its connections cut: nothing else would tell a client of it."""
    times = settings.timeouts
    health = [f"option httpchk GET {proxy.health_path}"] if proxy.health_path else []
    common = ["mode tcp", f"timeout server {_ms(times.tcp_idle_s)}", "option srvtcpka"]
    every = f"check inter {_ms(times.check_every_s)} fastinter 200ms rise 2 fall 2 on-marked-down shutdown-sessions"
    servers = [f"server {each.name} {each.address} weight {_WEIGHT}" for each in proxy.servers]
    return [
        [
            f"frontend {proxy.name}",
            "mode tcp",
            f"bind {_at(settings.host, proxy.port)}",
            f"log-format '{_log_format(settings.region, proxy.name, is_http=False)}'",
            f"timeout client {_ms(times.tcp_idle_s)}",
            "option clitcpka",
            f"use_backend {proxy.name} if {{ nbsrv({proxy.name}) gt 0 }}",
            f"default_backend {proxy.name}{LAST}",
        ],
        [f"backend {proxy.name}", *common, *health, *(f"{line} {every}" for line in servers)],
        [f"backend {proxy.name}{LAST}", *common, *servers],
    ]


# --- words -----------------------------------------------------------------------------------------------------------


def _log_format(region: str, pool: str, *, is_http: bool = True) -> str:
    """Return the format of a line in the log: JSON, with the names that our other logs use."""
    fields = {
        "event": '"edge.request"' if is_http else '"edge.connection"',
        "level": '"warning"',
        "timestamp": '"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]"',
        "region": f'"{region}"',
        "pool": f'"{pool}"',
        "client": '"%ci"',
        "backend": '"%b"',
        "server": '"%s"',
        "repeats": '"%rc"',
        "ended": '"%ts"',
        "queued_ms": "%Tw",
        "connect_ms": "%Tc",
    }
    of_http = {
        "id": '"%[var(txn.id),json(utf8s)]"',
        "method": '"%HM"',
        "path": '"%[var(txn.path),json(utf8s)]"',
        "status": "%ST",
        "answer_ms": "%Tr",
        "total_ms": "%Ta",
    }
    fields |= of_http if is_http else {"total_ms": "%Tt"}
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def _problem(status: int, name: str, title: str, detail: str | None = None) -> str:
    """Return a problem as HAProxy reads a body. Nothing in it is of a user's making, and it has no single quotes."""
    body = {"type": f"/problems/{name}", "title": title, "status": status} | ({"detail": detail} if detail else {})
    text = msgspec.json.encode(body).decode()
    assert "'" not in text, text
    return f"content-type application/problem+json string '{text}'"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_one_address(host: str) -> bool:
    return _is_address(host) and not ipaddress.ip_address(host).is_unspecified


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _int_ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _ms(seconds: float) -> str:
    return f"{_int_ms(seconds)}ms"
