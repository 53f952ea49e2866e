"""A nameserver of a few lines, for tests: UDP and TCP on one port of an address, with answers that a test changes."""

import socket
import socketserver
import threading
from types import TracebackType
from typing import Final, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

ZONE: Final = "bank.test."


class LittleNameserver:
    """A context manager; `place` says where it is, as `address:port`.

    Attributes:
        addresses: what it answers about each name, in this order; a name without an entry does not exist.
        ttl_s: of all answers.
        asked: the names and kinds that it was asked for.
        is_silent: whether it answers nothing at all.
        is_short: whether UDP has room for nothing, so that clients must come over TCP.
        tcp: how many questions came over TCP.
        noise: bytes that it sends over UDP before each answer.
    """

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = {f"{name}.{ZONE}": found for name, found in addresses.items()}
        self.ttl_s = 1
        self.asked: list[tuple[str, str]] = []
        self.is_silent = self.is_short = False
        self.tcp = 0
        self.noise: list[bytes] = []
        self._servers: list[socketserver.BaseServer] = []
        self._threads: list[threading.Thread] = []

    @property
    def place(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        nameserver = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                wire, connection = self.request
                for noise in nameserver.noise:
                    connection.sendto(noise, self.client_address)
                answer = nameserver.answer(wire, is_udp=True)
                if answer is not None:
                    connection.sendto(answer, self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                wire = self.rfile.read(int.from_bytes(self.rfile.read(2), "big"))
                answer = nameserver.answer(wire, is_udp=False)
                if answer is not None:
                    self.wfile.write(len(answer).to_bytes(2, "big") + answer)

        tcp, udp = _both(Tcp, Udp)
        self._port = tcp.server_address[1]
        self._servers = [tcp, udp]
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in self._servers]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def answer(self, wire: bytes, *, is_udp: bool) -> bytes | None:
        """Answer one question."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype)))
        self.tcp += not is_udp
        if self.is_silent:
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        if self.is_short and is_udp:
            answer.flags |= dns.flags.TC
            return answer.to_wire(want_shuffle=False)  # the order is the answer
        found = self.addresses.get(name)
        if found is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer.to_wire(want_shuffle=False)  # the order is the answer
        kind = dns.rdatatype.to_text(question.rdtype)
        fitting = [address for address in found if (":" in address) == (kind == "AAAA")]
        if fitting:
            answer.answer.append(dns.rrset.from_text(name, self.ttl_s, "IN", kind, *fitting))
        return answer.to_wire(want_shuffle=False)  # the order is the answer


def _both(
    tcp: type[socketserver.BaseRequestHandler], udp: type[socketserver.BaseRequestHandler]
) -> tuple[socketserver.TCPServer, socketserver.UDPServer]:
    """Listen on a port that is free for both."""
    while True:
        one = socketserver.ThreadingTCPServer(("127.0.0.1", 0), tcp)
        try:
            return one, socketserver.UDPServer(("127.0.0.1", one.server_address[1]), udp)
        except OSError:
            one.server_close()


def free_place() -> str:
    """Return an address and port where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
