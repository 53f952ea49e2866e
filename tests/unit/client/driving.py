"""Drives calls without a network: a script of what comes of each try, and a clock that only the call itself moves."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from fivenines.client.names import Addresses, NoAddresses
from fivenines.client.operations import Operations, Pages
from fivenines.client.retry import Call, Limits, Resolve, Session, Sleep, Step, Try, Wait
from fivenines.client.retry import Came as CameOf
from fivenines.client.servers import Servers
from fivenines.client.wire import Failure, Reply

T = TypeVar("T")
Came = Reply | Failure

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


@dataclass(frozen=True)
class After:
    """What comes of a try after so many seconds, if that is before its timeout."""

    seconds: float
    came: Came


Answering = Callable[[Try], Came | After]
Looking = Callable[[str], Addresses | NoAddresses | None]
UNHEDGED = Limits(hedge_s=math.inf)


class Drive:
    """Carries out calls on virtual time.

    Args:
        answer: says what comes of each try; or what comes of them in order, the last one for ever.
        chance: what the random number generator says, from 0 to 1.
        try_s: how long each try takes that does not time out.
        look_up: says what is answered about a name, at once; None: nothing, ever.
    """

    def __init__(
        self,
        answer: Answering | Iterable[Came | After],
        *,
        urls: tuple[str, ...] = ("http://a",),
        deadline_s: float = 30.0,
        limits: Limits = UNHEDGED,
        chance: float = 1.0,
        try_s: float = 0.0,
        reads_own_writes: bool = True,
        look_up: Looking | None = None,
    ) -> None:
        self.now = 1_000.0
        self.began = self.now
        self.tries: list[Try] = []
        self.tried_at: list[float] = []
        self.slept: list[float] = []
        self.looked_up: list[tuple[str, float]] = []
        self._answer = answer if callable(answer) else _in_order(list(answer))
        self._try_s = try_s
        self._look_up = look_up
        self._left: list[tuple[float, Try, Came]] = []
        """Tries that lost, with when something comes of them."""
        self.session = Session(
            servers=Servers(urls, asked=None if look_up is None else "a test"),
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

    @property
    def addresses(self) -> list[str | None]:
        """Which address each try went to."""
        return [step.server.address for step in self.tries]

    def run(self, call: Call[T]) -> T:
        """Carry out a call; nothing but what it asks for takes time."""
        came: CameOf | None = None
        under_way: list[tuple[float, Try, Came]] = []
        try:
            while True:
                try:
                    step = call.send(came)
                except StopIteration as end:
                    answer: T = end.value
                    return answer
                came = self._carry_out(step, under_way)
        finally:
            self._left += under_way

    def settle(self) -> None:
        """Let come what comes of the tries that lost, as long as anybody listens."""
        end = self.now + self.session.grace_s
        for at, step, came in sorted(self._left, key=lambda entry: entry[0]):
            if at <= end:
                self.now = max(self.now, at)
                self.session.answered_late(CameOf(step, came))
        self._left.clear()

    def _carry_out(self, step: Step, under_way: list[tuple[float, Try, Came]]) -> CameOf | None:
        match step:
            case Sleep(seconds):
                assert seconds > 0
                assert not under_way
                self.slept.append(seconds)
                self.now += seconds
                return None
            case Resolve(host, wait_s):
                assert wait_s >= 0
                assert not under_way
                self.looked_up.append((host, self.now))
                assert self._look_up is not None
                answer = self._look_up(host)
                if answer is None:
                    self.now += wait_s
                else:
                    self.session.servers.heard(host, answer, self.now)
                return None
            case Try():
                assert step.timeout_s > 0
                assert step.server not in [other.server for _, other, _ in under_way]
                self.tries.append(step)
                self.tried_at.append(self.now)
                under_way.append(self._begin(step))
                return self._first(under_way, step.patience_s)
            case Wait(patience_s):
                return self._first(under_way, patience_s)

    def _begin(self, step: Try) -> tuple[float, Try, Came]:
        answer = self._answer(step)
        came, seconds = (answer.came, answer.seconds) if isinstance(answer, After) else (answer, self._try_s)
        if isinstance(answer, After) and seconds > step.timeout_s:
            came = TIMED_OUT
        if isinstance(came, Failure) and came.kind == "timed_out":
            seconds = step.timeout_s
        return self.now + seconds, step, came

    def _first(self, under_way: list[tuple[float, Try, Came]], patience_s: float | None) -> CameOf | None:
        assert under_way, "waiting for nothing"
        first = min(under_way, key=lambda entry: entry[0])
        if patience_s is not None and first[0] > self.now + patience_s:
            self.now += patience_s
            return None
        under_way.remove(first)
        self.now = max(self.now, first[0])
        return CameOf(first[1], first[2])

    def items(self, fetch: Pages[T]) -> list[T]:
        """Fetch all pages."""
        page = self.run(fetch(None))
        items = list(page.items)
        while page.next is not None:
            page = self.run(fetch(page.next))
            items += page.items
        return items


def _in_order(script: list[Came | After]) -> Answering:
    return lambda _step: script.pop(0) if len(script) > 1 else script[0]
