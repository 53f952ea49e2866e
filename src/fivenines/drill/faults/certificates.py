"""TLS in front of the edges, and certificates that expire.

The platform's own edges speak plain HTTP, so here is what stands before them in most places: a second HAProxy for each
region that ends TLS and passes on what is in it. Its authority and certificates are made when it starts, by openssl. A
certificate is changed at run time, without a reload, as its tools do it.

    async with TlsFronts(platform) as fronts:
        fronts.url("eu-west"), fronts.authority     # where clients ask, and whom they trust
"""

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Self

from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.undoing import PutCertificateBack, ask_haproxy
from fivenines.drill.running import RunningPlatform
from fivenines.platform.local.dying import dying_with_us
from fivenines.platform.topology import PORTS
from fivenines.traffic.edge import find_haproxy

__all__ = ["TLS_PORT", "Front", "TlsFronts", "expire", "front_of", "is_trusted", "why_not"]

TLS_PORT = 9943
"""Where a region's front is, at the address of its edge."""
_START_S = 10.0
_LOOK_S = 0.02
_SHORT = 90
"""Longer paths are none for a socket."""


class Front:
    """TLS before one address.

    Args:
        folder: for its certificate, its settings and its socket.
        name: of the region.
        at: host and port where it listens.
        to: host and port of the edge.
        domain: a name that its certificate is for, too.
        before: what stands before its command, such as a way into a network.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        at: tuple[str, int],
        to: tuple[str, int],
        domain: str = "api.test",
        before: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.name, self.at = folder, name, at
        self._to, self._domain, self._before = to, domain, before
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where clients ask."""
        return f"https://{self.at[0]}:{self.at[1]}"

    @property
    def authority(self) -> Path:
        """The certificate of whom they trust."""
        return self.folder / "authority.pem"

    @property
    def admin(self) -> Path:
        """Its socket for orders."""
        path = self.folder / f"{self.name}.sock"
        return path if len(bytes(path)) <= _SHORT else Path(f"/tmp/fn-tls-{self.at[0]}-{self.at[1]}.sock")  # noqa: S108

    def pem(self, which: str = "good") -> Path:
        """The file of its "good" or its "expired" certificate, with the key."""
        return self.folder / f"{self.name}.{which}.pem"

    async def start(self) -> None:
        """Start it, with certificates made anew, and return when it takes connections. Raises OSError."""
        await asyncio.to_thread(self._make)
        haproxy = find_haproxy()
        if haproxy is None:
            raise FileNotFoundError("haproxy is not installed")
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*dying_with_us(), *self._before, haproxy, "-db", "-f", str(self.folder / f"{self.name}.cfg")),
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + _START_S
        while not (is_there := bool(await asyncio.to_thread(ask_haproxy, str(self.admin), "show info"))):
            if self._process.returncode is not None or time.monotonic() > until:
                break
            await asyncio.sleep(_LOOK_S)
        if not is_there:
            await self.stop()
            said = (self.folder / f"{self.name}.log").read_text(errors="replace").strip()
            raise OSError(f"the TLS front of {self.name} does not start: {said}")

    async def stop(self) -> None:
        """End it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
            self._process = None
            self.admin.unlink(missing_ok=True)

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _make_authority(self.folder)
        for which, days in (("good", 30), ("expired", -1)):
            _make_certificate(self.folder, f"{self.name}.{which}", self._domain, self.at[0], days)
        (self.folder / f"{self.name}.cfg").write_text(
            f"""global
    stats socket {self.admin} mode 600 level admin
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
listen {self.name}
    bind {self.at[0]}:{self.at[1]} ssl crt {self.pem()}
    server edge {self._to[0]}:{self._to[1]}
"""
        )


class TlsFronts:
    """A front before the edge of each region. An asynchronous context manager.

    Args:
        platform: that runs.
    """

    def __init__(self, platform: RunningPlatform) -> None:
        self.fronts = {region: front_of(platform, region) for region in platform.regions}

    @property
    def authority(self) -> Path:
        """The certificate of whom clients trust, for all of them."""
        return next(iter(self.fronts.values())).authority

    def url(self, region: str) -> str:
        """Where clients of a region ask."""
        return self.fronts[region].url

    async def __aenter__(self) -> Self:
        try:
            for front in self.fronts.values():
                await front.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for front in self.fronts.values():
            await front.stop()


def front_of(platform: RunningPlatform, region: str) -> Front:
    """Describe the front of a region's edge; it need not run."""
    topology = platform.topology
    host = topology.region(region).host
    return Front(
        topology.path / "tls",
        region,
        at=(host, TLS_PORT),
        to=(host, PORTS.edge),
        domain=f"api.{topology.spec.zone}",
        before=platform.network().inside(region),
    )


def why_not() -> str | None:
    """Say why there can be no TLS here, or return None."""
    missing = [name for name, path in (("openssl", shutil.which("openssl")), ("haproxy", find_haproxy())) if not path]
    return f"{' and '.join(missing)} is not installed (the same name in Debian)" if missing else None


async def expire(fault: InForce, front: Front) -> None:
    """Have a front show an expired certificate to whoever comes from now on. Raises `FaultImpossibleError`."""
    await asyncio.to_thread(_wait_for, front)
    admin, name = str(front.admin), str(front.pem())
    serial = _serial(await asyncio.to_thread(ask_haproxy, admin, f"show ssl cert {name}"))
    if not serial:
        raise FaultImpossibleError(fault.name, f"no TLS front of {front.name} answers at {admin}")
    await fault.promise(PutCertificateBack(admin, name, name, serial))
    pem = "\n".join(filter(None, front.pem("expired").read_text().splitlines()))
    await asyncio.to_thread(ask_haproxy, admin, f"set ssl cert {name} <<\n{pem}\n")
    said = await asyncio.to_thread(ask_haproxy, admin, f"commit ssl cert {name}")
    if "Success" not in said:
        raise FaultImpossibleError(fault.name, f"HAProxy says: {said}")


async def is_trusted(front: Front) -> bool:
    """Whether a client that trusts the authority takes the certificate. Raises OSError where nobody answers."""

    def look() -> bool:
        context = ssl.create_default_context(cafile=str(front.authority))
        with socket.create_connection(front.at, timeout=5) as to:
            try:
                with context.wrap_socket(to, server_hostname=front.at[0]):
                    return True
            except ssl.SSLCertVerificationError:
                return False

    return await asyncio.to_thread(look)


def _wait_for(front: Front) -> None:
    if not front.pem("expired").exists():
        raise FaultImpossibleError("expired_certificate", f"no TLS front of {front.name} was ever started")


def _serial(said: str) -> str:
    for line in said.splitlines():
        name, _, value = line.partition(":")
        if name == "Serial":
            return value.strip()
    return ""


def _make_authority(folder: Path) -> None:
    if not (folder / "authority.pem").exists():
        key, certificate = folder / "authority.key", folder / "authority.pem"
        _openssl(
            "req",
            "-x509",
            *_NEW_KEY,
            "-days",
            "3650",
            "-subj",
            "/CN=drill",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        )


def _make_certificate(folder: Path, name: str, domain: str, host: str, days: int) -> None:
    key, asked, made = (folder / f"{name}.{ending}" for ending in ("key", "csr", "crt"))
    names = ("-subj", f"/CN={domain}", "-addext", f"subjectAltName=DNS:{domain},IP:{host}")
    _openssl("req", *_NEW_KEY, *names, "-keyout", str(key), "-out", str(asked))
    authority = ("-CA", str(folder / "authority.pem"), "-CAkey", str(folder / "authority.key"))
    more = ("-days", str(days), "-set_serial", f"0x{os.urandom(12).hex()}", "-copy_extensions", "copy")
    _openssl("x509", "-req", "-in", str(asked), *authority, *more, "-out", str(made))
    (folder / f"{name}.pem").write_text(made.read_text() + key.read_text())


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(f"openssl {words[0]}: {done.stderr.strip()}")
