"""How a webhook proves who sent it, and when: HMAC-SHA256, as Standard Webhooks (standardwebhooks.com) has it.

    webhook-id         the event's id, the same at every try: a receiver keeps it to know a repetition
    webhook-timestamp  when this try was made, unix seconds: a receiver refuses old ones, so none can be replayed
    webhook-signature  v1,BASE64 of HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"); several, with spaces, while secrets change

A secret has a name. It is read from the file of that name in a folder, or else from the environment, again and again:
so it can be changed while webhooks are sent, and is stored nowhere. It may have two lines, the new secret and the old
one: then both sign, and receivers can move from one to the other. A line is text, or `whsec_` and base64.
"""

import base64
import binascii
import hmac
import os
import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ENVIRONMENT_PREFIX", "SecretError", "Secrets", "headers", "is_signed"]

ENVIRONMENT_PREFIX = "FIVENINES_WEBHOOK_SECRET_"
_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}\Z")

_BYTES_MIN = 16
_FILE_BYTES_MAX = 4_096
_AGE_S_MAX = 300


class SecretError(Exception):
    """There is no such secret, or it is none."""


class Secrets:
    """Secrets by their names.

    Args:
        directory: of the files; None to look into the environment only.
        environment: variables FIVENINES_WEBHOOK_SECRET_NAME; those of the process unless given.
    """

    def __init__(self, directory: Path | None = None, environment: dict[str, str] | None = None) -> None:
        self._directory = directory
        self._environment = os.environ if environment is None else environment

    def find(self, name: str) -> list[bytes]:
        """Return what to sign with, the newest secret first. Blocks on the disk.

        Raises:
            SecretError: there is none of this name, or it is too short to keep a secret.
        """
        if not _NAME.fullmatch(name):
            raise SecretError("a name of a secret is 1 to 64 of a-z 0-9 _ -")
        text = self._from_file(name)
        variable = ENVIRONMENT_PREFIX + name.upper().replace("-", "_")
        if text is None and (text := self._environment.get(variable)) is None:
            where = f"a file {name!r} in the folder of secrets, or " if self._directory is not None else ""
            raise SecretError(f"there is no secret {name!r}: it takes {where}{variable} in the environment")
        found = [_decoded(line.strip()) for line in text.splitlines() if line.strip()]
        if not found or min(map(len, found)) < _BYTES_MIN:
            raise SecretError(f"the secret {name!r} has fewer than {_BYTES_MIN} bytes")
        return found

    def _from_file(self, name: str) -> str | None:
        if self._directory is None:
            return None
        try:
            with (self._directory / name).open("rb") as file:
                return file.read(_FILE_BYTES_MAX).decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise SecretError(f"the secret {name!r} cannot be read: {type(error).__name__}") from error


def headers(secrets: Sequence[bytes], id: str, time_s: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove who sent a body, and when."""
    signatures = " ".join(f"v1,{_signature(secret, id, str(time_s), body)}" for secret in secrets)
    return {"webhook-id": id, "webhook-timestamp": str(time_s), "webhook-signature": signatures}


def is_signed(
    secret: bytes, *, id: str, timestamp: str, signature: str, body: bytes, now_s: float, age_s_max: float = _AGE_S_MAX
) -> bool:
    """Return whether a webhook was signed with a secret, lately: what a receiver checks."""
    if not timestamp.isascii() or not timestamp.isdigit() or abs(now_s - int(timestamp)) > age_s_max:
        return False
    right = f"v1,{_signature(secret, id, timestamp, body)}".encode()
    return any(hmac.compare_digest(right, each.encode()) for each in signature.split(" "))


def _signature(secret: bytes, id: str, timestamp: str, body: bytes) -> str:
    return base64.b64encode(
        hmac.digest(secret, b"%b.%b.%b" % (id.encode(), timestamp.encode(), body), "sha256")
    ).decode()


def _decoded(line: str) -> bytes:
    if not line.startswith("whsec_"):
        return line.encode()
    try:
        return base64.b64decode(line.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise SecretError("a secret begins with whsec_, and what follows is not base64") from error
