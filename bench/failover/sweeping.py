"""Whatever ends the benchmark, SIGKILL too, its namespaces and its folder go with it; its processes die by themselves.

A process of its own hears by the end of a pipe that the benchmark is over, and then takes away what is left.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fivenines.platform.builtin import BUILT_IN
from fivenines.platform.loading import parse
from fivenines.platform.local.isolation import Network
from fivenines.platform.topology import make_topology

__all__ = ["swept"]

_DYING_S_MAX: Final = 10.0


@contextmanager
def swept(folder: Path, networks: Sequence[int]) -> Iterator[None]:
    """Take away a folder and the namespaces of these networks when the block ends, or this process does."""
    command = [sys.executable, "-m", "bench.failover.sweeping", str(folder), *map(str, networks)]
    sweeper = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2], start_new_session=True)
    assert sweeper.stdin is not None
    try:
        yield
    finally:
        sweeper.stdin.close()
        sweeper.wait()


def main(arguments: Sequence[str]) -> None:
    """Wait for the end of standard input, and take away the folder and the networks that are named."""
    folder, *numbers = arguments
    sys.stdin.buffer.read()
    for number in numbers:
        # What is taken away goes by the number alone: which regions there were is not asked.
        topology = make_topology(
            parse(BUILT_IN).platform, Path(folder), home=Path(folder), network=int(number), isolation="netns"
        )
        Network(topology).remove()
    until = time.monotonic() + _DYING_S_MAX
    while Path(folder).exists() and time.monotonic() < until:  # what dies may still write
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1:])
