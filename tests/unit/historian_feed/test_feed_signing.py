"""How webhooks are signed, and secrets found."""

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from fivenines.historian.feed.signing import SecretError, Secrets, headers, is_signed

SECRET = b"0123456789abcdef"
OLD = b"fedcba9876543210"


def check(sent: dict[str, str], secret: bytes, *, body: bytes = b"{}", now_s: float = 1_000) -> bool:
    return is_signed(
        secret,
        id=sent["webhook-id"],
        timestamp=sent["webhook-timestamp"],
        signature=sent["webhook-signature"],
        body=body,
        now_s=now_s,
    )


def test_a_signature_is_that_of_standard_webhooks() -> None:
    sent = headers([SECRET], "7-0", 1_000, b'{"a":1}')
    right = base64.b64encode(hmac.new(SECRET, b'7-0.1000.{"a":1}', hashlib.sha256).digest()).decode()
    assert sent == {"webhook-id": "7-0", "webhook-timestamp": "1000", "webhook-signature": f"v1,{right}"}


def test_the_vector_of_the_standard_comes_out_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "vector").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    secrets = Secrets(tmp_path).find("vector")
    sent = headers(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert sent["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_anything_else_is_not_signed() -> None:
    sent = headers([SECRET], "7-0", 1_000, b"{}")
    assert check(sent, SECRET)
    assert not check(sent, OLD)
    assert not check(sent, SECRET, body=b"{ }")
    assert not check({**sent, "webhook-id": "8-0"}, SECRET)
    assert not check({**sent, "webhook-timestamp": "1001"}, SECRET)
    assert not check({**sent, "webhook-timestamp": "-1"}, SECRET)
    assert not check(sent, SECRET, now_s=1_301)
    assert not check(sent, SECRET, now_s=699)


def test_while_secrets_change_either_will_do(tmp_path: Path) -> None:
    (tmp_path / "hook").write_bytes(SECRET + b"\n" + OLD + b"\n")
    sent = headers(Secrets(tmp_path).find("hook"), "7-0", 1_000, b"{}")
    assert check(sent, SECRET)
    assert check(sent, OLD)
    (tmp_path / "hook").write_bytes(SECRET)
    assert not check(headers(Secrets(tmp_path).find("hook"), "7-0", 1_000, b"{}"), OLD)


def test_a_secret_comes_from_a_file_or_else_from_the_environment(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path, {"FIVENINES_WEBHOOK_SECRET_MY_HOOK": OLD.decode()})
    assert secrets.find("my-hook") == [OLD]
    (tmp_path / "my-hook").write_bytes(SECRET)
    assert secrets.find("my-hook") == [SECRET]


@pytest.mark.parametrize("name", ["absent", "", "../hook", "Hook", "a/b", ".hook", "hook\n"])
def test_a_name_of_nothing_is_no_secret(tmp_path: Path, name: str) -> None:
    (tmp_path / "hook").write_bytes(SECRET)
    with pytest.raises(SecretError):
        Secrets(tmp_path / "secrets", {}).find(name)


@pytest.mark.parametrize(
    "content", [b"", b"short", b"whsec_!!!!", b"whsec_c2hvcnQ=", b"\xff" * 20, SECRET + b"\nshort"]
)
def test_what_cannot_keep_a_secret_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hook").write_bytes(content)
    with pytest.raises(SecretError) as caught:
        Secrets(tmp_path, {}).find("hook")
    assert SECRET.decode() not in str(caught.value)
