"""A store: where a region keeps its archive. A folder, or a bucket of Amazon, Google, Azure or whatever speaks S3.

A store is named by a URL:

    file:///srv/archive                                a folder, also as a plain path
    s3://bucket/prefix?region=eu-west-1                credentials as usual from AWS_ACCESS_KEY_ID and so on
    s3://bucket?endpoint=http://127.0.0.1:8333&env=EU  another server, credentials from EU_ACCESS_KEY_ID and
                                                       EU_SECRET_ACCESS_KEY
    gs://bucket/prefix, az://container/prefix          credentials as usual from the environment

All methods block. What is written is durable when `put` returns: object stores promise that, and a folder is synced.
"""

import datetime
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from fivenines.journal.archive.errors import ObjectMissingError, StoreError
from fivenines.journal.disk import sync_directory

__all__ = ["Listed", "Store", "StoreUrlError", "open_store", "put_in_all"]

_TIMEOUT = datetime.timedelta(seconds=30)
_CONNECT_TIMEOUT = datetime.timedelta(seconds=3)
_RETRIES = 3
_RETRY_TIMEOUT = datetime.timedelta(seconds=10)
_SCHEMES = ("", "file", "s3", "gs", "az")
_OPTIONS = {"endpoint", "region", "env"}


class StoreUrlError(ValueError):
    """This names no store."""


class Listed(NamedTuple):
    """An object in a listing."""

    name: str
    bytes: int


class Store:
    """One store. Made by `open_store`.

    Args:
        name: what it is called in messages: its URL without secrets, which URLs here never have.
        objects: the objects, by obstore.
        folder: where they are, if in a folder.
    """

    def __init__(self, name: str, objects: Any, folder: Path | None = None) -> None:
        self.name = name
        self._objects = objects
        self._folder = folder

    def put(self, name: str, data: bytes, *, is_new: bool = False) -> None:
        """Write an object, durably.

        Args:
            name: of the object.
            data: all of it.
            is_new: whether it is an error if there is one of this name.

        Raises:
            StoreError: it is not written, or not known to be.
        """
        try:
            if self._folder is not None:
                _write_file(self._folder, self._folder / name, data, is_new=is_new)
            else:
                obstore.put(self._objects, name, data, mode="create" if is_new else "overwrite")
        except (AlreadyExistsError, FileExistsError) as error:
            raise StoreError(self.name, f"cannot write {name}", "there is one already") from error
        except (BaseError, OSError) as error:
            raise StoreError(self.name, f"cannot write {name}", _reason(error)) from error

    def get(self, name: str) -> bytes:
        """Read an object. Raises `ObjectMissingError` when there is none, `StoreError`."""
        try:
            return bytes(obstore.get(self._objects, name).bytes())
        except FileNotFoundError as error:
            raise ObjectMissingError(self.name, name) from error
        except (BaseError, OSError) as error:
            raise StoreError(self.name, f"cannot read {name}", _reason(error)) from error

    def delete(self, names: list[str]) -> None:
        """Delete objects; one that is not there is no error. Raises `StoreError`."""
        for name in names:
            try:
                obstore.delete(self._objects, name)
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise StoreError(self.name, f"cannot delete {name}", _reason(error)) from error

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """Iterate over the objects whose names begin with a path. Raises `StoreError`."""
        try:
            for page in obstore.list(self._objects, prefix or None):
                for item in page:
                    yield Listed(item["path"], item["size"])
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise StoreError(self.name, f"cannot list {prefix or 'it'}", _reason(error)) from error


def put_in_all(stores: Iterable[Store], name: str, data: bytes, *, is_new: bool = False) -> list[StoreError]:
    """Write an object into each store as `Store.put` does, and return what failed. Blocks."""
    failed: list[StoreError] = []
    for store in stores:
        try:
            store.put(name, data, is_new=is_new)
        except StoreError as error:
            failed.append(error)
    return failed


def open_store(url: str, *, make: bool = True) -> Store:
    """Return the store that a URL names; nothing is looked at yet.

    Args:
        url: as above.
        make: whether a folder that is not there is made.

    Raises:
        StoreUrlError: this names no store.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise StoreUrlError(
            f"{url!r} names no store: it begins with {', '.join(f'{each}://' for each in _SCHEMES[1:])}"
        )
    options = dict(parse_qsl(parts.query))
    if parts.scheme in {"", "file"}:
        folder = Path(parts.path if parts.scheme else url)
        if parts.netloc or options or not str(folder):
            raise StoreUrlError(f"{url!r} names no folder: it looks like file:///srv/archive")
        if not make and not folder.is_dir():
            raise StoreUrlError(f"there is no folder {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder = folder.resolve(strict=True)
        except OSError as error:
            raise StoreUrlError(f"the folder {folder} cannot be made: {error.strerror}") from error
        return Store(folder.as_uri(), from_url(folder.as_uri()), folder)
    if unknown := options.keys() - _OPTIONS:
        raise StoreUrlError(f"{url!r}: there is no option {min(unknown)!r}, only {', '.join(sorted(_OPTIONS))}")
    config: dict[str, Any] = {name: options[name] for name in ("endpoint", "region") if name in options}
    if (env := options.get("env")) is not None:
        for key, variable in (
            ("access_key_id", f"{env}_ACCESS_KEY_ID"),
            ("secret_access_key", f"{env}_SECRET_ACCESS_KEY"),
        ):
            if variable not in os.environ:
                raise StoreUrlError(f"{url!r}: {variable} is not in the environment")
            config[key] = os.environ[variable]
    client: dict[str, Any] = {"timeout": _TIMEOUT, "connect_timeout": _CONNECT_TIMEOUT}
    if options.get("endpoint", "").startswith("http:"):
        client["allow_http"] = True
    try:
        connect: Any = from_url  # its overloads differ by the kind of store, which only the URL tells
        objects = connect(
            urlunsplit(parts._replace(query="")),
            config=config or None,
            client_options=client,
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
        )
    except (BaseError, ValueError) as error:
        raise StoreUrlError(f"{url!r} names no store: {_reason(error)}") from error
    return Store(url.rstrip("/"), objects)


def _write_file(folder: Path, path: Path, data: bytes, *, is_new: bool) -> None:
    """Write a file such that its name means that all of it is on the disk; then each folder on the way to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.draft")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            path.hardlink_to(draft)
        else:
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    while path != folder:
        path = path.parent
        sync_directory(os, path)


def _reason(error: Exception) -> str:
    """Say in one line what a store's own error says on many."""
    text = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
    return " ".join(text.partition("Debug source")[0].split())[:400]
