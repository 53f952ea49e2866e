"""The etcd journal as its users see it: many at once, founding and fencing, idle lanes, long payloads, TLS."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Coroutine
from concurrent import futures
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from fivenines.drill.members import Cluster, free_ports
from fivenines.journal import JournalFailedError, NotDoneError, TrimmedError
from fivenines.journal.etcd import (
    EtcdJournal,
    EtcdJournalSettings,
    EtcdRefusedError,
    EtcdTls,
    JournalExistsError,
    JournalFencedError,
    JournalMissingError,
    JournalUnreachableError,
    fence,
    found,
)
from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.reading import look_request, parse_look
from tests.integration.etcd.clusters import fresh_settings
from tests.integration.etcd.conftest import StartCluster
from tests.integration.etcd.writing import Writers, assert_all_agree, catch_up, nearest_first, opened


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


# ---- many at once ------------------------------------------------------------------------------------------------


def test_several_appenders_on_several_members_see_one_order(settings: EtcdJournalSettings) -> None:
    async def main() -> None:
        await found(settings)
        async with opened(*(nearest_first(settings, number) for number in range(3))) as journals:
            writers = Writers(journals, tasks_each=6)
            followed = await asyncio.gather(*(follow(journal, 600) for journal in journals))
            await writers.stop()
            assert writers.errors == []
            assert followed[0] == followed[1] == followed[2]
            await assert_all_agree(journals, writers)

    run(main())


async def follow(journal: EtcdJournal, count: int) -> list[Any]:
    frames = []
    async with aclosing(journal.follow(1)) as follower:
        async for frame in follower:
            frames.append(frame)
            if len(frames) == count:
                break
    return frames


def test_frames_are_read_and_trimmed_while_others_append(settings: EtcdJournalSettings) -> None:
    async def main() -> None:
        small = replace(settings, mark_frames=20, recent_bytes_max=2_000)
        await found(small)
        async with opened(*(nearest_first(small, number) for number in range(3))) as journals:
            writers = Writers(journals)
            for _ in range(5):
                await writers.wait_acknowledged(150)
                await asyncio.gather(*(journal.trim(journal.last - 100) for journal in journals))
                newcomer = await EtcdJournal.open(small)
                await newcomer.close()
            await writers.stop()
            await catch_up(journals)
            first = max(journal.first for journal in journals)
            assert first > 400
            assert writers.errors == []
            seen = [await asyncio.to_thread(list, journal.read(first)) for journal in journals]
            assert seen[0] == seen[1] == seen[2]
            told = {position: payload for payload, position in writers.acknowledged.items()}
            assert [frame.payload for frame in seen[0]] == [told[frame.position] for frame in seen[0]]
            assert seen[0][-1].position == max(told)

    run(main())


# ---- founding, fencing, rebuilding -------------------------------------------------------------------------------


def test_a_journal_that_was_not_founded_is_missing(settings: EtcdJournalSettings) -> None:
    async def main() -> None:
        with pytest.raises(JournalMissingError):
            await EtcdJournal.open(settings)

    run(main())


def test_founding_twice_is_harmless_and_founding_another_is_refused(settings: EtcdJournalSettings) -> None:
    async def main() -> None:
        await found(settings, epoch=2, position=7, digest=b"7" * 32)
        await found(settings, epoch=2, position=7, digest=b"7" * 32)
        with pytest.raises(JournalExistsError):
            await found(settings)
        with pytest.raises(JournalExistsError):
            await found(settings, epoch=2, position=8, digest=b"8" * 32)

    run(main())


def test_a_journal_that_is_rebuilt_goes_on_counting_and_the_old_one_takes_nothing_more(
    etcd: Cluster, settings: EtcdJournalSettings
) -> None:
    async def main() -> None:
        await found(settings)
        rebuilt = fresh_settings(etcd)
        async with opened(settings, settings) as (old, idle):
            for number in range(5):
                await old.append(b"%d" % number)
            await fence(settings, 2)
            with pytest.raises(JournalFailedError):
                await old.append(b"too late")
            with pytest.raises(JournalFailedError):
                await idle.append(b"too late")
            assert old.failed is not None
            assert [frame.payload for frame in old.read(1)] == [b"%d" % number for number in range(5)]
            with pytest.raises(JournalFencedError, match="goes on in another etcd, in epoch 2"):
                await EtcdJournal.open(settings)
            with pytest.raises(JournalFencedError):
                await found(settings)
            await found(rebuilt, epoch=2, position=old.last, digest=old.last_digest)
            async with opened(rebuilt) as [new]:
                assert (new.first, new.last, new.last_digest, new.epoch) == (6, 5, old.last_digest, 2)
                assert await new.append(b"sixth") == 6
                with pytest.raises(TrimmedError):
                    new.read(5)

    run(main())


# ---- lanes -------------------------------------------------------------------------------------------------------


def test_a_lane_that_was_idle_for_too_long_is_replaced_without_anybody_noticing(
    settings: EtcdJournalSettings,
) -> None:
    async def main() -> None:
        small = replace(settings, mark_frames=10, lanes=1)
        await found(small)
        async with opened(small, small) as (idle, busy):
            assert await idle.append(b"begin") == 1
            for number in range(2, 60):
                assert await busy.append(b"%d" % number) == number
            while busy.first < 40:
                await busy.trim(55)
                await asyncio.sleep(0.01)
            answer, _ = await busy._client.txn(look_request(busy._keys), 10.0)
            assert len(parse_look(busy._keys, answer).lanes) == 1
            assert await idle.append(b"again") == 60
            await catch_up([idle, busy])
            assert idle.last_digest == busy.last_digest

    run(main())


def test_after_trimming_nothing_is_left_in_etcd_of_what_was_before(settings: EtcdJournalSettings) -> None:
    async def main() -> None:
        small = replace(settings, mark_frames=10)
        await found(small)
        async with opened(small) as [journal]:
            await asyncio.gather(*(journal.append(b"%d" % number) for number in range(200)))
            while journal.first < 150:
                await journal.trim(180)
                await asyncio.sleep(0.01)
            pieces = rpc.RangeRequest(key=journal._keys.frames, range_end=journal._keys.lanes, keys_only=True)
            answer, _ = await journal._client.txn(rpc.TxnRequest(success=[rpc.RequestOp(request_range=pieces)]), 10.0)
            assert answer.responses[0].response_range.count == 201 - journal.first

    run(main())


def test_a_long_payload_is_one_frame_among_others(settings: EtcdJournalSettings) -> None:
    async def main() -> None:
        await found(settings)
        async with opened(settings, settings) as (journal, other):
            sent = [os.urandom(length) for length in (3_000_000, 10, 65_536, 1_000_000, 65_537, 0)]
            positions = await asyncio.gather(*map(journal.append, sent))
            assert sorted(positions) == [1, 2, 3, 4, 5, 6]
            await catch_up([journal, other])
            assert journal.last_digest == other.last_digest
            by_position = {frame.position: frame.payload for frame in other.read(1)}
            assert [by_position[position] for position in positions] == sent

    run(main())


def test_an_append_that_is_cancelled_leaves_the_journal_sound(settings: EtcdJournalSettings) -> None:
    async def main() -> None:
        await found(settings)
        async with opened(settings) as [journal]:
            appends = [asyncio.create_task(journal.append(b"%d" % number)) for number in range(100)]
            await asyncio.sleep(0.002)
            for append in appends[::2]:
                append.cancel()
            await asyncio.gather(*appends, return_exceptions=True)
            last = await journal.append(b"last")
            frames = list(journal.read(1))
            assert [frame.position for frame in frames] == list(range(1, last + 1))
            kept = {b"%d" % number for number in range(1, 100, 2)} | {b"last"}
            assert kept <= {frame.payload for frame in frames}
            assert len({frame.payload for frame in frames}) == len(frames)

    run(main())


# ---- what it lives with ------------------------------------------------------------------------------------------


def test_a_fork_that_computes_and_exits_does_not_disturb_the_journal(settings: EtcdJournalSettings) -> None:
    """Snapshots are written like this."""

    async def main() -> None:
        await found(settings)
        async with opened(settings) as [journal]:
            for number in range(30):
                append = asyncio.create_task(journal.append(b"%d" % number))
                await asyncio.sleep(0)
                child = os.fork()
                if child == 0:
                    os.closerange(3, 1_024)
                    os._exit(0)
                assert await asyncio.to_thread(os.waitpid, child, 0) == (child, 0)
                assert await append == number + 1

    run(main())


def test_nobody_answers(settings: EtcdJournalSettings) -> None:
    async def main() -> None:
        nobody = replace(settings, endpoints=tuple(f"127.0.0.1:{port}" for port in free_ports(2)), append_s_max=0.5)
        with pytest.raises(JournalUnreachableError):
            await EtcdJournal.open(nobody)
        with pytest.raises(NotDoneError):
            await found(nobody)

    run(main())


@pytest.mark.parametrize("version", ["3.3.27", "3.5.0", "3.5.1", "3.5.2", "new"])
def test_an_etcd_that_is_known_to_lose_data_is_refused_by_name(settings: EtcdJournalSettings, version: str) -> None:
    """Among members that are well, too: by the time it leads, it is too late."""

    def status(_request: rpc.StatusRequest, _context: grpc.ServicerContext) -> rpc.StatusResponse:
        return rpc.StatusResponse(version=version, leader=1)

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    handler = grpc.unary_unary_rpc_method_handler(
        status,
        request_deserializer=rpc.StatusRequest.FromString,
        response_serializer=rpc.StatusResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("etcdserverpb.Maintenance", {"Status": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    async def main() -> None:
        await found(settings)
        with pytest.raises(EtcdRefusedError) as refused:
            await EtcdJournal.open(replace(settings, endpoints=(*settings.endpoints, f"127.0.0.1:{port}")))
        assert version in refused.value.reason

    try:
        run(main())
    finally:
        server.stop(None).wait()


def test_members_that_ask_for_a_certificate_are_reached_with_one_and_not_without(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, and makes the certificates")
    authority, key, certificate = make_certificates(tmp_path)

    async def main() -> None:
        cluster = start_cluster(
            tls=[
                *("--cert-file", str(certificate), "--key-file", str(key)),
                *("--trusted-ca-file", str(authority), "--client-cert-auth"),
            ]
        )
        tls = EtcdTls(authorities=authority, certificate=certificate, key=key)
        settings = fresh_settings(cluster, tls=tls, append_s_max=60.0, status_s=10.0)
        while True:
            try:
                await found(settings)
                break
            except JournalUnreachableError:  # they are starting
                continue
        async with opened(settings) as [journal]:
            assert await journal.append(b"in private") == 1
            assert [frame.payload for frame in journal.read(1)] == [b"in private"]
        for other in (None, EtcdTls(authorities=authority)):
            with pytest.raises(JournalUnreachableError):
                await EtcdJournal.open(replace(settings, tls=other, status_s=1.0))

    run(main())


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Make an authority, and a key with a certificate for both ends of a connection on this machine."""
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test", "-days", "2")
    openssl("req", *new_key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=member")
    openssl(
        *("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-days", "2", "-extfile", "extensions", "-out", "certificate.pem"),
    )
    return folder / "ca.pem", folder / "key.pem", folder / "certificate.pem"
