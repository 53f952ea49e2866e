"""Founding: the beginning of a journal in an etcd, and the end of one that is to go on in another.

A journal is rebuilt in a new etcd, from snapshots and segments, like this: `fence` it in the old etcd, if that still
answers, so that nobody appends there any more; then `found` it in the new one, in the next epoch, at the position and
digest where it ends. Positions go on counting from there, and whoever has the old epoch open is refused.
"""

from contextlib import suppress

from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.client import EtcdClient, NoSpaceError, RefusedError
from fivenines.journal.etcd.errors import EtcdRefusedError, JournalExistsError, JournalFencedError, JournalMissingError
from fivenines.journal.etcd.lanes import number_value
from fivenines.journal.etcd.layout import Keys, Place, pack_place
from fivenines.journal.etcd.members import Members
from fivenines.journal.etcd.outside import OUTSIDE, Outside
from fivenines.journal.etcd.reading import look_request, parse_look
from fivenines.journal.etcd.settings import EtcdJournalSettings
from fivenines.journal.format import DIGEST_NONE
from fivenines.journal.port import JournalFullError, Position

__all__ = ["check_free", "fence", "found"]


async def found(
    settings: EtcdJournalSettings,
    *,
    epoch: int = 1,
    position: Position = 0,
    digest: bytes = DIGEST_NONE,
    outside: Outside = OUTSIDE,
) -> None:
    """Begin a journal whose first frame comes after `position`. Harmless when it is repeated.

    Raises:
        JournalExistsError: there is another one.
        JournalFencedError: there was one, which goes on elsewhere.
        EtcdRefusedError: this etcd must not keep a journal.
        JournalUnreachableError: no majority of the members answers. It may be founded, so try again.
    """
    keys = Keys(settings.prefix)
    place = Place(position=position, digest=digest)
    client = EtcdClient(settings, outside)
    try:
        await Members(client, settings).look()
        request = rpc.TxnRequest(
            compare=[rpc.Compare(target=rpc.Compare.CREATE, key=keys.epoch, create_revision=0)],
            success=[
                _put(keys.epoch, number_value(epoch)),
                _put(keys.base, pack_place(place)),
            ],
            failure=look_request(keys).success,
        )
        answer = await _write(client, request, settings)
        if not answer.succeeded:
            seen = parse_look(keys, answer)
            if seen.is_fenced:
                raise JournalFencedError(settings.prefix, seen.epoch)
            if seen.epoch != epoch or (seen.base.revision == 0 and seen.base != place):
                raise JournalExistsError(settings.prefix, seen.epoch, seen.base.position)
    finally:
        await client.close()


async def check_free(settings: EtcdJournalSettings) -> None:
    """See to it that a journal can be founded.

    Raises:
        JournalExistsError: there is one already.
        JournalFencedError: there was one, which goes on elsewhere.
        EtcdRefusedError: this etcd must not keep a journal.
        JournalUnreachableError: no majority of the members answers.
    """
    keys = Keys(settings.prefix)
    client = EtcdClient(settings)
    try:
        await Members(client, settings).look()
        with suppress(JournalMissingError):
            seen = parse_look(keys, await _write(client, look_request(keys), settings))
            if seen.is_fenced:
                raise JournalFencedError(settings.prefix, seen.epoch)
            raise JournalExistsError(settings.prefix, seen.epoch, seen.base.position)
    finally:
        await client.close()


async def fence(settings: EtcdJournalSettings, epoch: int) -> None:
    """See to it that nobody appends to the journal in this etcd any more, or opens it: it goes on elsewhere.

    There it is in `epoch`. Who has it open here can still read what there is.

    Raises:
        JournalMissingError: there is none to be fenced.
        JournalUnreachableError: no majority of the members answers: try again.
    """
    keys = Keys(settings.prefix)
    client = EtcdClient(settings)
    try:
        request = rpc.TxnRequest(
            compare=[
                rpc.Compare(target=rpc.Compare.CREATE, result=rpc.Compare.GREATER, key=keys.epoch, create_revision=0)
            ],
            success=[_put(keys.epoch, number_value(epoch)), _put(keys.fenced, b"1")],
        )
        if not (await _write(client, request, settings)).succeeded:
            raise JournalMissingError(settings.prefix)
    finally:
        await client.close()


async def _write(client: EtcdClient, request: rpc.TxnRequest, settings: EtcdJournalSettings) -> rpc.TxnResponse:
    try:
        return (await client.txn(request, settings.append_s_max)).txn
    except NoSpaceError as error:
        raise JournalFullError(str(error)) from error
    except RefusedError as error:
        raise EtcdRefusedError(error.endpoint, error.reason) from error


def _put(key: bytes, value: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))
