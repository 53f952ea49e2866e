"""Threads for what a waiting client does beside its callers: tries that may be overtaken, and looking up names.

A thread is begun when there is none idle, and ends when it was idle for a while. They are daemons: a server that hangs
does not keep a program from its end.
"""

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

__all__ = ["Workers"]

_IDLE_S: Final = 10.0

Job = Callable[[], None]


class Workers:
    """As many threads as there are jobs at once."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        """How many wait for a job that is not on its way to them."""
        self._threads: set[threading.Thread] = set()
        self._is_closed = False

    def start(self, job: Job) -> None:
        """Have a job done by another thread.

        Raises:
            RuntimeError: it is closed.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this ledger client is closed")
            if self._idle > 0:
                self._idle -= 1
                self._jobs.put(job)
                return
            thread = threading.Thread(target=self._work, args=(job,), name="fivenines-client", daemon=True)
            self._threads.add(thread)
        thread.start()

    def close(self, wait_s: float) -> None:
        """Take no more jobs, and wait so long at most for those under way."""
        with self._lock:
            self._is_closed = True
            for _ in range(self._idle):
                self._jobs.put(None)
            self._idle = 0
            threads = self._threads - {threading.current_thread()}
        end = time.monotonic() + wait_s
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _work(self, first: Job) -> None:
        job: Job | None = first
        try:
            while job is not None:
                job()
                job = self._next()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _next(self) -> Job | None:
        with self._lock:
            if self._is_closed:
                return None
            self._idle += 1
        try:
            return self._jobs.get(timeout=_IDLE_S)
        except Empty:
            with self._lock:
                if self._idle > 0:
                    self._idle -= 1
                    return None
            return self._jobs.get()  # all that wait are spoken for: a job, or the end, is on its way
