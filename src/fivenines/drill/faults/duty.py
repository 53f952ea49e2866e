"""A helper that lets processes run for a share of the time only.

`python -m fivenines.drill.faults.duty SHARE PID:STARTED...` stops them and lets them go on, twenty times a second. Told
to end, it lets them go on.
"""

import signal
import sys
import time

from fivenines.drill.faults.processes import Process

__all__ = ["main"]

_PERIOD_S = 0.05


def main(words: list[str]) -> None:
    """Do it until SIGTERM, or until none of them is left."""
    share = float(words[0])
    processes = [Process(*map(int, word.split(":"))) for word in words[1:]]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while sum(each.send(signal.SIGSTOP) for each in processes):
            time.sleep(_PERIOD_S * (1 - share))
            for each in processes:
                each.send(signal.SIGCONT)
            time.sleep(_PERIOD_S * share)
    finally:
        for each in processes:
            each.send(signal.SIGCONT)


if __name__ == "__main__":
    main(sys.argv[1:])
