"""The journal in etcd on the command line: how it is named, and `fivenines journal found`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fivenines.cli.output import JSON, CommandFailedError, configure_logs, out, print_json, telling_errors

if TYPE_CHECKING:
    from fivenines.journal import SharedJournal
    from fivenines.journal.etcd import EtcdJournalSettings

__all__ = [
    "JOURNAL",
    "AuthoritiesOption",
    "CertificateOption",
    "KeyOption",
    "etcd_settings",
    "found",
    "open_journal",
    "register",
]

SCHEME = "etcd://"
DEFAULT_PREFIX = "/fivenines/journal/"

JOURNAL = typer.Option(
    "--journal",
    metavar="etcd://HOST:PORT,...",
    help="The members of the journal's etcd, the nearest first; a path names the journal's keys.",
    envvar="FIVENINES_JOURNAL",
)
AUTHORITIES = typer.Option(
    "--journal-ca", metavar="FILE", help="Who signs the members' certificates; with it or a certificate, TLS is used."
)
CERTIFICATE = typer.Option("--journal-cert", metavar="FILE", help="Our certificate for the members.")
KEY = typer.Option("--journal-key", metavar="FILE", help="Its private key.")

JournalOption = Annotated[str, JOURNAL]
AuthoritiesOption = Annotated[Path | None, AUTHORITIES]
CertificateOption = Annotated[Path | None, CERTIFICATE]
KeyOption = Annotated[Path | None, KEY]

_FOUND_EXAMPLES = """
[bold]Examples[/]

  fivenines journal found --journal etcd://etcd1:2379,etcd2:2379,etcd3:2379

  fivenines serve --journal etcd://etcd1:2379,etcd2:2379,etcd3:2379 --region eu-west --name eu-west-1
"""


def register(journal: typer.Typer) -> None:
    """Add the command to the group `journal`."""
    journal.command(epilog=_FOUND_EXAMPLES)(found)


def etcd_settings(
    journal: str,
    authorities: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    *,
    quota_mib: int = 2_048,
) -> "EtcdJournalSettings":
    """Return the settings of the journal that `--journal` names.

    Raises:
        CommandFailedError: this is no such name, a file is missing, or the extra `etcd` is not installed.
    """
    try:
        from fivenines.journal.etcd import EtcdJournalSettings, EtcdTls
    except ImportError as error:
        raise CommandFailedError(
            f"a journal in etcd needs what is not installed: {error.name}", hint="pip install 'fivenines[etcd]'"
        ) from error
    if not journal.startswith(SCHEME):
        raise CommandFailedError(f"--journal: {journal!r} does not begin with {SCHEME}", hint=_HINT)
    addresses, slash, path = journal.removeprefix(SCHEME).partition("/")
    endpoints = tuple(filter(None, addresses.split(",")))
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
            raise CommandFailedError(f"--journal: {endpoint!r} is no HOST:PORT", hint=_HINT)
    if not endpoints:
        raise CommandFailedError("--journal: it names no member", hint=_HINT)
    for option, file in (("--journal-ca", authorities), ("--journal-cert", certificate), ("--journal-key", key)):
        if file is not None and not file.is_file():
            raise CommandFailedError(f"{option}: there is no file {file}")
    prefix = f"/{path.strip('/')}/" if slash and path.strip("/") else DEFAULT_PREFIX
    try:
        tls = None
        if authorities or certificate or key:
            tls = EtcdTls(authorities=authorities, certificate=certificate, key=key)
        return EtcdJournalSettings(endpoints=endpoints, prefix=prefix, tls=tls, quota_bytes=quota_mib * 1024 * 1024)
    except ValueError as error:
        raise CommandFailedError(f"--journal: {error}") from error


_HINT = "it looks like etcd://etcd1:2379,etcd2:2379,etcd3:2379"


def found(
    journal: JournalOption,
    journal_ca: AuthoritiesOption = None,
    journal_cert: CertificateOption = None,
    journal_key: KeyOption = None,
    json: JSON = False,
) -> None:
    """Begin a journal in etcd, once. Harmless when it is repeated; a journal that is there stays as it is.

    A node never does this by itself: to find no journal where there was one must not look like a new ledger.
    """
    import asyncio

    configure_logs(as_json=json)
    with telling_errors():
        settings = etcd_settings(journal, journal_ca, journal_cert, journal_key)
        from fivenines.journal import JournalError
        from fivenines.journal.etcd import found as found_journal

        try:
            asyncio.run(found_journal(settings))
        except JournalError as error:
            raise CommandFailedError(str(error)) from error
    if json:
        print_json({"event": "founded", "prefix": settings.prefix, "endpoints": settings.endpoints})
    else:
        out.print(f"there is a journal under [bold]{settings.prefix}[/] of {', '.join(settings.endpoints)}")


async def open_journal(settings: "EtcdJournalSettings") -> "SharedJournal":
    """Open the journal in etcd. Raises as `EtcdJournal.open` does."""
    from fivenines.journal.etcd import EtcdJournal

    return await EtcdJournal.open(settings)
