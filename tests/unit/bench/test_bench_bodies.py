import uuid
from itertools import pairwise

import msgspec
import pytest

from bench.bodies import JSON_ARRAY, MSGPACK_ROWS, BodyFormat, Template
from bench.ids import uuid7_bytes
from fivenines.api import NewTransaction

NAMES = [f"bench:{number:06d}" for number in range(1, 51)]
TIME_MS = 1_750_000_000_123


def ids_in(form: BodyFormat, body: bytes) -> list[bytes]:
    if form is JSON_ARRAY:
        items = msgspec.json.decode(body, type=list[NewTransaction])
        return [uuid.UUID(item.id).bytes for item in items if item.id]
    return [row[0] for row in msgspec.msgpack.decode(body)]


@pytest.mark.parametrize("counter", [0, 1, 2**46 - 1])
def test_an_id_is_a_uuid7_of_its_time(counter: int) -> None:
    id = uuid.UUID(bytes=uuid7_bytes(TIME_MS, 4_095, counter))
    assert (id.version, id.variant, id.int >> 80) == (7, uuid.RFC_4122, TIME_MS)


@pytest.mark.parametrize(("salt", "counter"), [(4_096, 0), (-1, 0), (0, 2**46), (0, -1)])
def test_an_id_refuses_what_does_not_fit(salt: int, counter: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        uuid7_bytes(TIME_MS, salt, counter)


def test_ids_of_one_time_and_salt_ascend_with_the_counter() -> None:
    ids = [uuid7_bytes(TIME_MS, 7, counter) for counter in (0, 1, 255, 256, 65_535, 65_536, 2**46 - 1)]
    assert all(earlier < later for earlier, later in pairwise(ids))


@pytest.mark.parametrize("form", [JSON_ARRAY, MSGPACK_ROWS], ids=["json", "msgpack"])
def test_a_renewed_body_has_fresh_ascending_ids_and_the_same_postings(form: BodyFormat) -> None:
    template = Template(form, NAMES, rows=300, seed=3)
    seen: list[bytes] = []
    contents = set()
    for counter, time_ms in enumerate((TIME_MS, TIME_MS, TIME_MS + 70_000)):
        template.renew(time_ms=time_ms, salt=0x9AB, counter=counter)
        body = bytes(template.body)
        ids = ids_in(form, body)
        assert all(uuid.UUID(bytes=id).version == 7 and id[:6] == time_ms.to_bytes(6, "big") for id in ids)
        seen += ids
        for id in ids:
            body = body.replace(form.id_written(id), b"", 1)
        contents.add(body)
    assert len(seen) == len(set(seen)) == 900
    assert seen == sorted(seen)
    assert len(contents) == 1


def test_rows_of_both_forms_say_the_same() -> None:
    as_json = msgspec.json.decode(Template(JSON_ARRAY, NAMES, rows=20, seed=5).body)
    as_rows = msgspec.msgpack.decode(Template(MSGPACK_ROWS, NAMES, rows=20, seed=5).body)
    assert [[*item["postings"][0].values()] for item in as_json] == [row[1:] for row in as_rows]


def test_a_body_has_at_most_as_many_rows_as_two_bytes_can_number() -> None:
    with pytest.raises(ValueError, match="65536"):
        Template(MSGPACK_ROWS, NAMES, rows=65_537, seed=1)
