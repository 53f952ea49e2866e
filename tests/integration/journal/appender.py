"""What the killed processes of the journal's tests run. Imports little, as it is started hundreds of times."""

import asyncio
import hashlib
import os
import resource
import signal
import struct
from multiprocessing.connection import Connection
from pathlib import Path

from fivenines.journal import FileJournal, FileJournalSettings, JournalError

SETTINGS = FileJournalSettings(segment_bytes=200_000)
APPENDERS = 8
ACK = struct.Struct("<QIII")
"""Position, run, appender, number."""


def payload_of(run: int, appender: int, number: int) -> bytes:
    """A payload that tells which one it is, of a length and content that follow from that."""
    name = struct.pack("<III", run, appender, number)
    seed = hashlib.sha256(name).digest()
    length = int.from_bytes(seed[:2], "little") >> (seed[2] % 12)
    return name + (seed * (length // 32 + 1))[:length]


def name_of(payload: bytes) -> tuple[int, int, int]:
    run, appender, number = struct.unpack_from("<III", payload)
    return run, appender, number


def append_until_killed(directory: Path, run: int, acknowledged: Connection) -> None:
    """Append from several tasks at once, and send word of each append that the journal acknowledged."""

    async def main() -> None:
        journal = FileJournal.open(directory, settings=SETTINGS)

        async def appender(me: int) -> None:
            number = 0
            while True:
                position = await journal.append(payload_of(run, me, number))
                os.write(acknowledged.fileno(), ACK.pack(position, run, me, number))
                number += 1

        await asyncio.gather(*(appender(me) for me in range(APPENDERS)))

    asyncio.run(main())


def hold_open(directory: Path, ready: Connection) -> None:
    """Open the journal, say so, and keep it open."""
    journal = FileJournal.open(directory)
    ready.send(os.getpid())
    signal.pause()
    raise AssertionError(journal)


def fill_until_refused(directory: Path, limit_bytes: int, results: Connection) -> None:
    """Append until the limit on file size is met, then lift the limit, and append once more."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))

    async def main() -> None:
        journal = FileJournal.open(directory)
        acknowledged = 0
        refusal = ("", "")
        try:
            while True:
                await journal.append(bytes(1_000))
                acknowledged += 1
        except JournalError as error:
            refusal = type(error).__name__, str(error)
        readable = sum(1 for _ in journal.read(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        again = await journal.append(b"again")
        await journal.close()
        results.send((acknowledged, refusal, readable, again))

    asyncio.run(main())
