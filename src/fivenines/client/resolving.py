"""Asks for the addresses of a name: nameservers that are given, or the system.

The platform's nameservers are asked one after another, beginning with the one that answered last, and each has a short
time: a dead one costs a fraction of a second once. `lookup` says whom to ask and what follows from what it said, and
does no I/O; two drivers of a few lines carry it out, with threads and with an event loop.

Without nameservers the system resolves, as for any other program: /etc/hosts, search domains, and whatever else its
administrator has set up. `localhost` always goes there (RFC 6761).
"""

import asyncio
import os
import socket
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fivenines.client.names import Addresses, NoAddresses
from fivenines.client.servers import is_address

if TYPE_CHECKING:
    import dns.message

__all__ = ["Ask", "Nameserver", "Resolver", "lookup", "nameservers_of"]

NAMESERVERS_VARIABLE: Final = "FIVENINES_NAMESERVERS"
NAMESERVER_TIMEOUT_S: Final = 0.4
"""More than a round trip to the other side of the world."""
SYSTEM_TTL_S: Final = 10.0
"""The system does not tell how long its answer is good."""
_PORT: Final = 53
_UDP_PAYLOAD: Final = 1232
"""Bytes that pass unfragmented nearly everywhere (DNS flag day 2020)."""


@dataclass(frozen=True, slots=True)
class Nameserver:
    """One that is asked over UDP, and over TCP where its answer is too long for that."""

    address: str
    port: int = _PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def nameservers_of(given: Sequence[str] | None) -> tuple[Nameserver, ...]:
    """Read nameservers: those given, or where that is None those of FIVENINES_NAMESERVERS, separated by commas.

    Raises:
        ValueError: one of them is no IP address with or without a port.
    """
    if isinstance(given, str):
        given = given.split(",")
    texts = given if given is not None else os.environ.get(NAMESERVERS_VARIABLE, "").split(",")
    return tuple(dict.fromkeys(_nameserver(text.strip()) for text in texts if text.strip()))


def _nameserver(text: str) -> Nameserver:
    if is_address(text):
        return Nameserver(text)
    address, _, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]") if text.startswith("[") else address
    if text.startswith("[") and text.endswith("]"):
        address, port = text[1:-1], str(_PORT)
    if not is_address(address) or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{text!r} is no nameserver: it should look like 127.0.0.1:5353 or [::1]:5353")
    return Nameserver(address, int(port))


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this query to this nameserver."""

    nameserver: Nameserver
    query: "dns.message.QueryMessage"


Lookup = Generator[Ask, "dns.message.Message | str", Addresses | NoAddresses]


def lookup(host: str, nameservers: Sequence[Nameserver]) -> Lookup:
    """Look a name up. Yields what to ask, and is sent the answer, or in words why there is none.

    IPv4 comes before IPv6, each in the order of its answer. A nameserver that knows no address is not the last word:
    it may have lost its zone, so the next one is asked.
    """
    import dns.message

    said = []
    for nameserver in nameservers:
        addresses: list[str] = []
        ttl_s = float("inf")
        for kind in ("A", "AAAA"):
            query = dns.message.make_query(host, kind, use_edns=0, payload=_UDP_PAYLOAD)
            answer = yield Ask(nameserver, query)
            found = answer if isinstance(answer, str) else _read(answer)
            if isinstance(found, Addresses):
                addresses += found.addresses
                ttl_s = min(ttl_s, found.ttl_s)
                continue
            if kind == "A":
                said.append(f"{nameserver} {found}")
            if isinstance(answer, str) or found == _NO_SUCH_NAME:
                break  # the other kind would fare no better
        if addresses:
            return Addresses(tuple(addresses), ttl_s)
    return NoAddresses(f"no address of {host}: {', '.join(said)}")


_NO_SUCH_NAME: Final = "says there is no such name"


def _read(answer: "dns.message.Message") -> Addresses | str:
    """Return the addresses in an answer, following aliases within it; or in words why there are none."""
    import dns.exception
    import dns.message
    import dns.rcode

    if answer.rcode() == dns.rcode.NXDOMAIN:
        return _NO_SUCH_NAME
    if answer.rcode() != dns.rcode.NOERROR:
        return f"answers {dns.rcode.to_text(answer.rcode())}"
    if not isinstance(answer, dns.message.QueryMessage):
        return "gives an answer that is none"
    try:
        chain = answer.resolve_chaining()
    except dns.exception.DNSException as error:
        return f"gives an answer that makes no sense ({error})"
    if not chain.answer:
        return "knows no address"
    return Addresses(tuple(record.address for record in chain.answer), float(chain.minimum_ttl))


class Resolver:
    """Looks names up for one client. Threads may share it.

    Args:
        nameservers: whom to ask; empty: the system.
    """

    def __init__(self, nameservers: tuple[Nameserver, ...]) -> None:
        self._in_turn = nameservers
        self.asked: Final = ", ".join(map(str, nameservers)) or "the system's resolver"
        if nameservers:  # now and not within the first request: it takes a while
            import dns.asyncquery
            import dns.query  # noqa: F401

    def look_up(self, host: str) -> Addresses | NoAddresses:
        """Look a name up; the system may take as long as it wants."""
        if not self._in_turn or _is_local(host):
            try:
                return _of_system(host, socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                return _not_of_system(host, error)
        course = lookup(host, self._in_turn)
        ask = next(course)
        while True:
            try:
                ask = course.send(_ask(ask))
            except StopIteration as end:
                return self._remember(ask, end.value)

    async def look_up_async(self, host: str) -> Addresses | NoAddresses:
        """Look a name up; the system may take as long as it wants."""
        if not self._in_turn or _is_local(host):
            try:
                loop = asyncio.get_running_loop()
                return _of_system(host, await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                return _not_of_system(host, error)
        course = lookup(host, self._in_turn)
        ask = next(course)
        while True:
            try:
                ask = course.send(await _ask_async(ask))
            except StopIteration as end:
                return self._remember(ask, end.value)

    def _remember(self, last: Ask, came: Addresses | NoAddresses) -> Addresses | NoAddresses:
        """Begin next time with the one that answered."""
        if isinstance(came, Addresses) and self._in_turn[0] != last.nameserver:
            at = self._in_turn.index(last.nameserver)
            self._in_turn = self._in_turn[at:] + self._in_turn[:at]
        return came


def _options(ask: Ask) -> dict[str, Any]:
    # What comes from elsewhere, or makes no sense, is not for us: the answer may come yet.
    return {
        "timeout": NAMESERVER_TIMEOUT_S,
        "port": ask.nameserver.port,
        "ignore_unexpected": True,
        "ignore_errors": True,
    }


def _ask(ask: Ask) -> "dns.message.Message | str":
    import dns.exception
    import dns.query

    try:
        return dns.query.udp_with_fallback(ask.query, ask.nameserver.address, **_options(ask))[0]
    except (OSError, EOFError, dns.exception.DNSException) as error:
        return _why(error)


async def _ask_async(ask: Ask) -> "dns.message.Message | str":
    import dns.asyncquery
    import dns.exception

    try:
        return (await dns.asyncquery.udp_with_fallback(ask.query, ask.nameserver.address, **_options(ask)))[0]
    except (OSError, EOFError, dns.exception.DNSException) as error:
        return _why(error)


def _why(error: Exception) -> str:
    import dns.exception

    if isinstance(error, dns.exception.Timeout):
        return f"does not answer within {NAMESERVER_TIMEOUT_S:g} s"
    return f"cannot be asked ({str(error) or type(error).__name__})"


def _is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _of_system(host: str, found: Sequence[tuple[Any, ...]]) -> Addresses | NoAddresses:
    # An address with a scope (fe80::1%eth0) cannot stand in a URL.
    addresses = [str(entry[4][0]) for entry in found if entry[0] in {socket.AF_INET, socket.AF_INET6}]
    usable = tuple(dict.fromkeys(address for address in addresses if "%" not in address))
    return Addresses(usable, SYSTEM_TTL_S) if usable else NoAddresses(f"no usable address of {host}: {addresses}")


def _not_of_system(host: str, error: Exception) -> NoAddresses:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return NoAddresses(f"no address of {host} from the system's resolver: {said}")
