"""The ids of all accounts in order, for pages of them."""

import bisect
from itertools import islice

from fivenines.ledger import State

__all__ = ["AccountListing"]

_INSERTED_ONE_BY_ONE_MAX = 500  # about what merging them costs among a million


class AccountListing:
    """All account ids, sorted. Accounts are only ever added, so what is new is merged in when somebody looks."""

    def __init__(self, state: State) -> None:
        self._accounts = state.accounts
        self._ids = sorted(state.accounts)

    def page(self, *, prefix: str, after: str, limit: int) -> tuple[list[str], str | None]:
        """Return up to `limit` ids that begin with `prefix` and come after `after`, and the last of them if more do."""
        self._catch_up()
        ids = self._ids
        start = bisect.bisect_right(ids, after) if after >= prefix else bisect.bisect_left(ids, prefix)
        found = []
        for id in ids[start : start + limit + 1]:
            if not id.startswith(prefix):
                break
            found.append(id)
        return found[:limit], found[limit - 1] if len(found) > limit else None

    def _catch_up(self) -> None:
        count = len(self._accounts) - len(self._ids)
        new = islice(reversed(self._accounts), count)
        if count <= _INSERTED_ONE_BY_ONE_MAX:
            for id in new:
                bisect.insort(self._ids, id)
        else:
            # Two sorted runs: sorting merges them, in a fraction of the time that a million unsorted ids would take.
            self._ids += sorted(new)
            self._ids.sort()
