"""Drives calls without a network: a script of what comes of each try, and a clock that only the call itself moves."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from fivenines.client.operations import Operations, Pages
from fivenines.client.retry import Call, Limits, Servers, Session, Sleep, Try
from fivenines.client.wire import Failure, Reply

T = TypeVar("T")
Came = Reply | Failure
Answering = Callable[[Try], Came]

UNREACHED = Failure("unreached", "no connection")
TIMED_OUT = Failure("timed_out", "no answer")
CUT_OFF = Failure("cut_off", "broken")
GARBLED = Failure("garbled", "noise")


def reply(status: int = 200, content: Any = None, *, position: int | None = 7, **more: Any) -> Reply:
    """Return a reply as a node would send it."""
    media_type = "application/json" if status < 400 else "application/problem+json"
    return Reply(status=status, media_type=media_type, body=msgspec.json.encode(content), position=position, **more)


def problem(status: int, name: str = "problem", **more: Any) -> Reply:
    """Return an error as a node would send it."""
    headers = {key: more.pop(key) for key in ("position", "retry_after", "date") if key in more}
    content = {"type": f"/problems/{name}", "title": "Something is wrong.", "status": status} | more
    return reply(status, content, **headers)


class Drive:
    """Carries out calls on virtual time.

    Args:
        answer: says what comes of each try; or what comes of them in order, the last one for ever.
        chance: what the random number generator says, from 0 to 1.
        try_s: how long each try takes that does not time out.
    """

    def __init__(
        self,
        answer: Answering | Iterable[Came],
        *,
        urls: tuple[str, ...] = ("http://a",),
        deadline_s: float = 30.0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        chance: float = 1.0,
        try_s: float = 0.0,
        reads_own_writes: bool = True,
    ) -> None:
        self.now = 1_000.0
        self.began = self.now
        self.tries: list[Try] = []
        self.tried_at: list[float] = []
        self.slept: list[float] = []
        self._answer = answer if callable(answer) else _in_order(list(answer))
        self._try_s = try_s
        self.session = Session(
            servers=Servers(urls),
            deadline_s=deadline_s,
            limits=limits,
            reads_own_writes=reads_own_writes,
            clock=lambda: self.now,
            random=lambda: chance,
        )
        self.operations = Operations(self.session)

    @property
    def urls(self) -> list[str]:
        """Where each try went."""
        return [step.url for step in self.tries]

    def run(self, call: Call[T]) -> T:
        """Carry out a call, in no time."""
        came: Came | None = None
        while True:
            try:
                step = call.send(came)
            except StopIteration as end:
                answer: T = end.value
                return answer
            if isinstance(step, Sleep):
                assert step.seconds > 0
                self.slept.append(step.seconds)
                self.now += step.seconds
                came = None
                continue
            assert step.timeout_s > 0
            self.tries.append(step)
            self.tried_at.append(self.now)
            came = self._answer(step)
            timed_out = isinstance(came, Failure) and came.kind == "timed_out"
            self.now += step.timeout_s if timed_out else self._try_s

    def items(self, fetch: Pages[T]) -> list[T]:
        """Fetch all pages."""
        page = self.run(fetch(None))
        items = list(page.items)
        while page.next is not None:
            page = self.run(fetch(page.next))
            items += page.items
        return items


def _in_order(script: list[Came]) -> Answering:
    return lambda _step: script.pop(0) if len(script) > 1 else script[0]
