"""The members: whether they may keep a journal, how full they are, which one leads, and which is the nearest.

A member that is asked for its state answers with its version, the etcd that it belongs to, and the size of its
database. Appends are refused here, before etcd's quota is reached: beyond it etcd raises an alarm, and takes no writes
until somebody has made room, defragmented every member and taken the alarm back by hand.
"""

import asyncio
from collections.abc import Callable

import grpc
import structlog

from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.client import EtcdClient, RefusedError
from fivenines.journal.etcd.errors import EtcdRefusedError, JournalUnreachableError
from fivenines.journal.etcd.settings import MIB, EtcdJournalSettings

__all__ = ["Members", "member_status", "version_refusal"]

log = structlog.get_logger(__name__)

_VERSION_MIN = (3, 4, 0)
_CORRUPTING = ((3, 5, 0), (3, 5, 1), (3, 5, 2))
_FILE_SHARE_MAX = 0.95
"""The file does not shrink, but what is free in it is used again: so it may come nearer to the quota than what is in
use, and no more than this."""


def version_refusal(version: str) -> str | None:
    """Say why an etcd of this version must not keep a journal, or return None."""
    try:
        numbers = tuple(int(part) for part in version.partition("-")[0].partition("+")[0].split("."))
    except ValueError:
        return f"its version is {version!r}"
    if numbers < _VERSION_MIN:
        return f"its version is {version}, and 3.4 is the oldest that can"
    if numbers in _CORRUPTING:
        return f"its version is {version}, and 3.5.0 to 3.5.2 are known to corrupt data when they are killed"
    return None


def member_status(endpoint: str) -> rpc.StatusResponse | None:
    """Ask a member how it is; None when it does not answer."""
    with grpc.insecure_channel(endpoint) as channel:
        call = channel.unary_unary(
            "/etcdserverpb.Maintenance/Status",
            request_serializer=rpc.StatusRequest.SerializeToString,
            response_deserializer=rpc.StatusResponse.FromString,
        )
        try:
            status: rpc.StatusResponse = call(rpc.StatusRequest(), timeout=1.0)
        except grpc.RpcError:
            return None
        return status


class Members:
    """The members of the journal's etcd, as they were at the last look."""

    def __init__(self, client: EtcdClient, settings: EtcdJournalSettings) -> None:
        self._client = client
        self._settings = settings
        self._cluster_id: int | None = None
        self._bytes_in_use = 0
        self._bytes_of_file = 0
        self._alarm = False
        self._journal_bytes_then: int | None = None

    def expect_cluster(self, cluster_id: int) -> None:
        """Refuse members of any other etcd from now on."""
        self._cluster_id = cluster_id

    def full_reason(self, journal_bytes: int) -> str | None:
        """Say why nothing more should be appended now, or return None. `journal_bytes` is what was appended so far."""
        settings = self._settings
        in_use, limit = self._in_use(journal_bytes)
        if self._alarm:
            return "etcd is over its quota and has raised an alarm"
        if in_use >= limit:
            return f"etcd has {in_use // MIB} MiB in use, and the limit is {limit // MIB} MiB: trim the journal"
        if self._bytes_of_file >= settings.quota_bytes * _FILE_SHARE_MAX:
            return f"a file of {self._bytes_of_file // MIB} MiB is near etcd's quota: defragment its members"
        return None

    def fullness(self, journal_bytes: int) -> float:
        """Return how much of what may be in use is: at 1 nothing more is appended. More than payloads count there."""
        in_use, limit = self._in_use(journal_bytes)
        return in_use / limit

    def _in_use(self, journal_bytes: int) -> tuple[int, int]:
        if self._journal_bytes_then is None:
            self._journal_bytes_then = journal_bytes
        in_use = self._bytes_in_use + journal_bytes - self._journal_bytes_then
        return in_use, int(self._settings.quota_bytes * self._settings.quota_share_max)

    async def look(self) -> None:
        """Ask all members how they are. Raises `EtcdRefusedError`, and `JournalUnreachableError` when none answers."""
        settings = self._settings
        try:
            answers = await asyncio.gather(
                *(self._client.status(number, settings.status_s) for number in range(len(settings.endpoints)))
            )
        except RefusedError as error:
            raise EtcdRefusedError(error.endpoint, error.reason) from error
        found = [(settings.endpoints[number], answer) for number, answer in enumerate(answers) if answer is not None]
        if not found:
            raise JournalUnreachableError("no member answers")
        for endpoint, status in found:
            self._check(endpoint, status)
        self._bytes_in_use = max(status.db_size_in_use for _, status in found)
        self._bytes_of_file = max(status.db_size for _, status in found)
        self._alarm = any("NOSPACE" in error or "no space" in error for _, status in found for error in status.errors)
        self._journal_bytes_then = None
        # Back to the members that serve best: the leader, to which any other would send a write on, and for watching
        # the nearest that is well.
        well = [number for number, answer in enumerate(answers) if answer is not None and answer.leader]
        if well:
            leading = [number for number, answer in enumerate(answers) if answer is not None and _leads(answer)]
            self._client.current = leading[0] if leading else well[0]
            self._client.nearest = well[0]

    async def watch(self, fail: Callable[[str], None]) -> None:
        """Look at intervals, for ever; `fail` is told when a member must not keep the journal."""
        while True:
            await asyncio.sleep(self._settings.status_s)
            try:
                await self.look()
            except JournalUnreachableError as error:
                log.warning("journal.members_silent", reason=error.reason)
            except EtcdRefusedError as error:
                fail(str(error))

    def _check(self, endpoint: str, status: rpc.StatusResponse) -> None:
        if (reason := version_refusal(status.version)) is not None:
            raise EtcdRefusedError(endpoint, reason)
        if self._cluster_id not in {None, status.header.cluster_id}:
            raise EtcdRefusedError(endpoint, "it belongs to another etcd than the journal was opened in")


def _leads(status: rpc.StatusResponse) -> bool:
    return status.leader == status.header.member_id
