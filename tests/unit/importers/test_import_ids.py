import re
from uuid import UUID

import msgspec

from fivenines.api import TransactionId
from fivenines.importers.ids import SEQUENCE_MAX, row_id

NOW_MS = 1_764_000_000_123


def test_an_id_is_a_uuid_of_version_7_with_the_time_of_the_first_import() -> None:
    for sequence in (0, 1, 12_345_678_901, SEQUENCE_MAX):
        text = row_id(importer="berka", identity="trans:1", sequence=sequence, base_time_ms=NOW_MS)
        assert msgspec.convert(text, TransactionId) == text
        uuid = UUID(text)
        assert (uuid.version, uuid.variant) == (7, "specified in RFC 4122")
        assert uuid.int >> 80 == NOW_MS


def test_the_same_row_has_the_same_id_and_others_have_others() -> None:
    def make(**changed: object) -> str:
        said = {"importer": "berka", "identity": "trans:1", "sequence": 7, "base_time_ms": NOW_MS} | changed
        return row_id(**said)  # type: ignore[arg-type]

    assert make() == make()
    others = [make(importer="x"), make(identity="trans:2"), make(sequence=8), make(base_time_ms=NOW_MS + 1)]
    assert len({make(), *others}) == 5


def test_ids_ascend_with_the_sequence_whatever_the_row() -> None:
    sequences = [0, 1, 2**10, 2**24 - 1, 2**24, 2**24 + 1, SEQUENCE_MAX]
    ids = [row_id(importer="i", identity=str(-s), sequence=s, base_time_ms=NOW_MS) for s in sequences]
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"[0-9a-f-]{36}", each) for each in ids)
