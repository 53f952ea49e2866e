"""What can be refused before anything is opened is refused there; and what etcd must not keep a journal."""

from pathlib import Path
from typing import Any

import pytest

from fivenines.journal.etcd import EtcdJournalSettings, EtcdTls
from fivenines.journal.etcd.members import version_refusal


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoints": ()},
        {"lanes": 0},
        {"piece_bytes_max": 0},
        {"append_s_max": 0.0},
        {"silence_s_max": -1.0},
        {"quota_share_max": 1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).partition("s_")[0][:8]):
        EtcdJournalSettings(**{"endpoints": ("127.0.0.1:2379",), **wrong})


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(ValueError, match="together"):
        EtcdTls(certificate=Path("certificate.pem"))


@pytest.mark.parametrize("version", ["3.4.0", "3.4.23", "3.5.3", "3.5.17", "3.6.0-rc.1", "3.6.4", "4.0.0"])
def test_versions_that_are_sound_are_taken(version: str) -> None:
    assert version_refusal(version) is None


@pytest.mark.parametrize("version", ["", "2.3.8", "3.3.27", "3.5.0", "3.5.1", "3.5.2", "3.5.2+git", "latest"])
def test_versions_that_are_not_are_refused_by_name(version: str) -> None:
    reason = version_refusal(version)
    assert reason is not None
    assert version.partition("+")[0] in reason
