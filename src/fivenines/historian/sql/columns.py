"""Types of columns that SQLite and PostgreSQL spell differently, so that no digit, id or character is lost in either.

- `WideInteger`: an integer of up to 128 bits. PostgreSQL has NUMERIC(39,0). SQLite's integers end at 64 bits and its
  NUMERIC turns what is beyond into a float, so there it is a column that converts nothing: an integer where that
  fits, and else its digits as text.
- `Id`: sixteen bytes. PostgreSQL has uuid; SQLite gets the usual text form, which its tools can show.
- `Text`: text that may hold what SQL text cannot, a NUL above all. Such characters are escaped by a private one that
  nobody types, so that ordinary text is stored as it is. It is compared byte by byte, which is fast and the same
  everywhere.
"""

import re
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Dialect, Numeric, Uuid
from sqlalchemy import Text as PlainText
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from fivenines.ids import as_text

__all__ = ["Id", "Text", "WideInteger", "from_sql_text", "sql_text", "sqlite_integer"]

_ESCAPE = "\ue000"
_UNSTORABLE = re.compile("[\0\ue000\ud800-\udfff]")
_ESCAPED = re.compile(f"{_ESCAPE}([0-9a-f]{{4}})")
_INT64_MAX = 2**63 - 1


def sql_text(text: str) -> str:
    """Return `text` in a form that every database stores."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text)


def from_sql_text(text: str) -> str:
    """Return what `sql_text` was given."""
    if _ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def sqlite_integer(value: int) -> int | str:
    """Return `value` as SQLite stores it without loss."""
    return value if -_INT64_MAX <= value <= _INT64_MAX else str(value)


class _Unconverted(UserDefinedType[Any]):
    """A column of SQLite with no affinity: it stores what it is given."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "BLOB"


class WideInteger(TypeDecorator[int]):
    """An integer of up to 128 bits."""

    impl = Numeric(39, 0)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        return dialect.type_descriptor(_Unconverted() if dialect.name == "sqlite" else Numeric(39, 0))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """Make what the driver takes."""
        if value is None:
            return None
        return sqlite_integer(value) if dialect.name == "sqlite" else Decimal(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002 its shape is given
        """Make a plain integer of what the driver gives."""
        return None if value is None else int(value)


class Id(TypeDecorator[bytes]):
    """Sixteen bytes."""

    impl = Uuid
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        return dialect.type_descriptor(PlainText() if dialect.name == "sqlite" else Uuid())

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> Any:
        """Make what the driver takes."""
        if value is None:
            return None
        return as_text(value) if dialect.name == "sqlite" else UUID(bytes=value)

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        """Make bytes of what the driver gives."""
        if value is None:
            return None
        return bytes.fromhex(value.replace("-", "")) if dialect.name == "sqlite" else bytes(value.bytes)


class Text(TypeDecorator[str]):
    """Text of any characters, ordered by its bytes."""

    impl = PlainText
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        return dialect.type_descriptor(PlainText() if dialect.name == "sqlite" else PlainText(collation="C"))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 its shape is given
        """Escape what cannot be stored."""
        return None if value is None else sql_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 its shape is given
        """Take the escapes back."""
        return None if value is None else from_sql_text(value)
