"""The servers of one ledger: which there are, which works, and which are to be left alone for a while. No I/O here.

A server is a base URL, and where its host is a name also one of the addresses that the name stands for. The order is
that of the URLs, and within a name that of the nameserver's answer. One that works is kept, so a client stays in its
region until that fails, or is no longer in the answer. Then the next one is taken that has not failed of late: first
those in the answers, then those in earlier ones.
"""

import ipaddress
import threading
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from fivenines.client.names import Addresses, Name, NoAddresses

__all__ = ["Server", "Servers", "is_address"]

_NEVER: Final = float("-inf")


def is_address(host: str) -> bool:
    """Tell whether the host of a URL is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ascii(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode()


@dataclass(frozen=True, slots=True)
class Server:
    """Where a request may go."""

    url: str
    """The base URL, as its user knows it."""
    address: str | None = None
    """The IP address to connect to; None: the host of the URL, as it is."""
    origin: str = field(init=False, compare=False)
    """The base URL to connect to."""
    host: str | None = field(init=False, compare=False)
    """What to send as `Host`, where that is not what the origin says."""
    name: str | None = field(init=False, compare=False)
    """Whose certificate is expected, where that is not what the origin says."""
    label: str = field(init=False, compare=False)
    """For people, and to tell connections apart."""

    def __post_init__(self) -> None:
        origin, host, name, label = self.url, None, None, self.url
        if self.address is not None:
            parts = urlsplit(self.url)
            place = f"[{self.address}]" if ":" in self.address else self.address
            port = "" if parts.port is None else f":{parts.port}"
            origin = urlunsplit((parts.scheme, place + port, parts.path, "", ""))
            name = _ascii(parts.hostname or "")
            host = name + port
            label = f"{self.url} at {self.address}"
        for attribute, value in (("origin", origin), ("host", host), ("name", name), ("label", label)):
            object.__setattr__(self, attribute, value)


class Servers:
    """The servers of one ledger. Threads may share it: picking reads single values, changes are made under a lock.

    Args:
        urls: base URLs, the nearest first.
        asked: who is asked for the addresses of hosts that are names, in words; None: nobody, and each URL is one
            server.
    """

    def __init__(self, urls: tuple[str, ...], *, asked: str | None = None) -> None:
        assert urls
        self.urls: Final = urls
        hosts = {url: urlsplit(url).hostname or "" for url in urls} if asked is not None else {}
        self._names = {host: Name(host, asked=asked or "") for host in hosts.values() if not is_address(host)}
        self._name_of = {url: self._names[host] for url, host in hosts.items() if host in self._names}
        self._lock = threading.Lock()
        self._avoid_until: dict[Server, float] = {}
        self._overtaken: dict[Server, tuple[Server, float]] = {}
        self._current: Server | None = None
        self.ask_at = _NEVER if self._names else float("inf")
        """Before this time there is no name to ask for."""
        self._listed: tuple[Server, ...] = ()
        self._earlier: tuple[Server, ...] = ()
        self._list()

    def __len__(self) -> int:
        """Return how many there are to choose from."""
        return len(self._listed) + len(self._earlier)

    @property
    def reason(self) -> str:
        """Why there is no server to be picked."""
        return "; ".join(name.reason for name in self._names.values())

    # --- names

    def due(self, now: float) -> list[tuple[str, bool]]:
        """Return the names to ask for now, and whether a request should wait for the answer.

        It should for a name that nobody has waited for yet, and while there is no server at all.
        """
        with self._lock:
            found = []
            for name in self._names.values():
                is_waited_for = not name.answer and (not name.was_waited_for or not len(self))
                if is_waited_for or name.ask_at <= now:
                    found.append((name.host, is_waited_for))
                    if not is_waited_for:
                        name.mark_asked(now)
            self._ask_later()
            return found

    def heard(self, host: str, came: Addresses | NoAddresses, now: float) -> None:
        """Take note of what came of asking for a name."""
        with self._lock:
            if self._names[host].heard(came, now):
                self._list()
            self._ask_later()

    def waited(self, host: str) -> None:
        """Take note that a request has waited for a name as long as it could."""
        with self._lock:
            self._names[host].was_waited_for = True
            self._ask_later()

    def _ask_later(self) -> None:
        nothing = not len(self)
        self.ask_at = min(
            _NEVER if not name.answer and (nothing or not name.was_waited_for) else name.ask_at
            for name in self._names.values()
        )

    def _list(self) -> None:
        listed: dict[Server, None] = {}
        earlier: dict[Server, None] = {}
        for url in self.urls:
            name = self._name_of.get(url)
            if name is None:
                listed[Server(url)] = None
                continue
            listed.update((Server(url, address), None) for address in name.answer)
            earlier.update((Server(url, address), None) for address in name.earlier)
        self._listed, self._earlier = tuple(listed), tuple(earlier)
        if self._current not in listed:
            self._current = None
        known = listed | earlier
        self._avoid_until = {server: until for server, until in self._avoid_until.items() if server in known}
        self._overtaken = {server: by for server, by in self._overtaken.items() if server in known}

    # --- picking

    def pick(self, now: float) -> Server | None:
        """Return the one that works, or the next one that is not avoided; if all are, the one avoided since longest.

        None: no name has an address.
        """
        current, avoid_until = self._current, self._avoid_until
        if current is not None and avoid_until.get(current, _NEVER) <= now:
            return current
        return self.pick_other(now, without=())

    def pick_other(self, now: float, *, without: tuple[Server, ...]) -> Server | None:
        """Return what `pick` would if those were not there."""
        avoid_until = self._avoid_until
        in_turn = [server for server in self._in_turn() if server not in without]
        for server in in_turn:
            if avoid_until.get(server, _NEVER) <= now:
                return server
        return min(in_turn, key=lambda server: avoid_until.get(server, _NEVER), default=None)

    def is_avoided(self, server: Server, now: float) -> bool:
        """Tell whether it failed of late, or is no longer known."""
        return self._avoid_until.get(server, _NEVER) > now or server not in self._in_turn()

    def _in_turn(self) -> tuple[Server, ...]:
        listed, earlier, current = self._listed, self._earlier, self._current
        if current in listed:
            at = listed.index(current)
            return listed[at:] + listed[:at] + earlier
        return listed + earlier

    # --- what became of a try

    def worked(self, server: Server) -> None:
        """Stay with this server."""
        if self._current is server and server not in self._avoid_until:
            return  # as nearly always
        with self._lock:
            if server in self._listed:  # else its region is no longer where clients are wanted
                self._current = server
            self._avoid_until.pop(server, None)
            self._overtaken.pop(server, None)

    def failed(self, server: Server, *, until: float) -> None:
        """Leave this server alone until then, if there is another."""
        with self._lock:
            if server in self._listed or server in self._earlier:
                self._avoid_until[server] = until

    def overtaken(self, slow: Server, *, by: Server, now: float, until: float) -> None:
        """Take a server as failed that another one has overtaken, unless it is forgiven."""
        self.failed(slow, until=until)
        with self._lock:
            self._overtaken[slow] = by, now

    def forgive(self, slow: Server, *, now: float, within_s: float) -> None:
        """Take a server back that answered just after it was overtaken: it was slow because all were.

        While the journal elects a leader every server waits, and then all answer at once. A client should not change
        its region by who wins that.
        """
        with self._lock:
            by, at = self._overtaken.pop(slow, (None, _NEVER))
            if by is None or now - at > within_s:
                return
            self._avoid_until.pop(slow, None)
            if self._current == by and slow in self._listed:
                self._current = slow
