"""A clock that jumps or drifts, for one Python process: libfaketime between it and the C library.

A process must be started with it. Its agent reads further environment for each workload from a file at each start (see
`Program.env_file`), so the fault writes that, has the workload restarted, and from then on says in another file what
the clock shows; the library looks there once a second. Only the time of day is changed: the monotonic clock, by which
programs wait, goes on as ever. In the end the clock is right at once, and the next start is one without the library.

What a wrong clock has brought into the world stays: a frame's time that is in the journal is never taken back, and the
journal's time waits until the others' clocks have come so far.

The library's way to sleep until a monotonic moment is broken in the versions that Debian has (Python's `time.sleep`
since 3.11), so Python is told to sleep in another way, by a `sitecustomize` that we write beside.
"""

import asyncio
import glob
import time
from pathlib import Path

from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.undoing import PutFileBack

__all__ = ["Clock", "environment", "find_library", "why_not"]

_CACHE_S = 1
_STEP_S = 0.25
_SITE = '''"""Sleeps in a way that libfaketime understands. Written by a drill."""

import select
import time


def _sleep(seconds, /):
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


time.sleep = _sleep
'''


def find_library() -> str | None:
    """Return the path of libfaketime, or None."""
    places = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1")
    return next((each for place in places for each in sorted(glob.glob(place))), None)  # noqa: PTH207 - not ours


def why_not() -> str | None:
    """Say why no clock can be changed here, or return None."""
    if find_library() is None:
        return "libfaketime is not installed: Debian has it in the package libfaketime"
    return None


def environment(clock: Path, site: Path) -> dict[str, str]:
    """What a process is started with, so that a file says what its clock shows.

    Args:
        clock: the file.
        site: a folder of ours with a `sitecustomize.py`.
    """
    return {
        "LD_PRELOAD": find_library() or "",
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": str(_CACHE_S),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": str(site),
    }


class Clock:
    """The clock of one process.

    Args:
        fault: that it suffers from.
        folder: for the file that says what it shows; it must stay for as long as the process runs.
        name: of the workload.
    """

    def __init__(self, fault: InForce, folder: Path, name: str) -> None:
        self._fault = fault
        self._file, self._site = folder / f"{name}.clock", folder / "site"

    async def prepare(self, env_file: Path | None = None) -> dict[str, str]:
        """Write what is needed, and return the environment; also to a file, where one is given. Raises OSError."""
        self._site.mkdir(parents=True, exist_ok=True)
        (self._site / "sitecustomize.py").write_text(_SITE)
        # The right time stays in this file in the end: the process reads it for as long as it runs.
        await self._fault.promise(PutFileBack(str(self._file), "+0\n"))
        self._say(0.0)
        found = environment(self._file, self._site)
        if env_file is not None:
            before = env_file.read_text() if env_file.exists() else None
            await self._fault.promise(PutFileBack(str(env_file), before))
            env_file.parent.mkdir(parents=True, exist_ok=True)
            lines = [*(before or "").splitlines(), *(f"{name}={value}" for name, value in found.items())]
            env_file.write_text("\n".join(lines) + "\n")
        return found

    async def jump(self, offset_s: float) -> None:
        """Have it show a time that is so much later, or earlier. Raises OSError."""
        self._say(offset_s)
        await asyncio.sleep(_CACHE_S)

    def drift(self, seconds_per_s: float) -> None:
        """Have it go too fast, or too slow, by so many seconds each second, from now on."""
        began = time.monotonic()

        async def go_on() -> None:
            offset_s = (time.monotonic() - began) * seconds_per_s
            self._say(offset_s)
            self._fault.facts["clock_off_s"] = round(offset_s, 3)

        self._fault.keep_doing(go_on, every_s=_STEP_S, then=lambda: self._say(0.0))

    def _say(self, offset_s: float) -> None:
        draft = self._file.with_suffix(".draft")
        try:
            draft.write_text(f"{offset_s:+.3f}\n" if offset_s else "+0\n")
            draft.replace(self._file)
        except OSError as error:
            raise FaultImpossibleError(self._fault.name, f"{self._file}: {error.strerror}") from error
