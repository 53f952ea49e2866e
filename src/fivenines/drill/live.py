"""What a demo shows while it runs: a bar with rate and time left on a terminal, plain lines anywhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live as Rich
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from fivenines.importers.run import Progress

__all__ = ["Live"]

_LINES = 10
"""How many lines a replay takes where there is no terminal."""


class Live:
    """Tells how far a demo is. `advance` may be called from another thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._bar: Bar | None = None
        self._told = 0
        self.picture: Callable[[], RenderableType | None] = lambda: None
        """What is shown above the bar, on a terminal."""

    def say(self, sentence: str) -> None:
        """Tell an event."""
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {sentence}", soft_wrap=True)

    @contextmanager
    def replaying(self, total: int) -> Iterator[None]:
        """Show a bar meanwhile, where there is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn("replaying"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[label]}"),
            TimeRemainingColumn(),
        )
        bar = self._bar = Bar(*columns, console=self._console)
        bar.add_task("", total=total, label="")

        def shown() -> Group:
            above = self.picture()
            return Group(bar) if above is None else Group(above, "", bar)

        with Rich(console=self._console, get_renderable=shown, refresh_per_second=4, transient=True):
            try:
                yield
            finally:
                self._bar = None

    def advance(self, progress: Progress) -> None:
        """Tell how far the import is."""
        if progress.phase != "transactions":
            return
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=progress.done, total=progress.total, label=progress.label)
        elif progress.done * _LINES // progress.total > self._told:
            self._told = progress.done * _LINES // progress.total
            self.say(f"{progress.done:,} of {progress.total:,} rows, up to {progress.label}")
