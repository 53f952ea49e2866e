"""Hand a zone to a DNS provider by octoDNS: its Manager, with our zone as source and the user's provider as target.

octoDNS is an extra, so this module is imported only when it is used. Our zone goes to it the way its users would hand
it over: as a folder for its YamlProvider. Only what is ours is touched: octoDNS's OwnershipProcessor puts a TXT record
`_fivenines...` beside each record, takes away what has one and is no longer wanted, and leaves all else alone.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct
from octodns.manager import Manager
from octodns.provider.plan import UnsafePlan

from fivenines.traffic.octodns_export import Export, Record

__all__ = ["Change", "Outcome", "SyncError", "UnsafeSyncError", "sync"]

SOURCE, OWNER = "fivenines-zone", "fivenines-owner"
OWNER_NAME, OWNER_VALUE = "_fivenines", "heritage=fivenines"


class SyncError(Exception):
    """octoDNS or the provider cannot do it; the message says why."""


class UnsafeSyncError(SyncError):
    """So much would change that octoDNS wants to hear that it is meant."""


class Change(Struct, frozen=True, kw_only=True):
    """One record that is made, changed or taken away at a provider."""

    target: str
    action: str
    """create, update or delete."""
    name: str
    type: str
    before: str = ""
    after: str = ""
    is_marker: bool = False
    """Whether it only says that another record is ours."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What a run found, and did."""

    changes: tuple[Change, ...]
    notices: tuple[str, ...]
    applied: int


def sync(
    zone: str,
    make: Callable[[bool], Export],
    config: Mapping[str, Any],
    *,
    target: str | None = None,
    apply: bool = False,
    force: bool = False,
) -> Outcome:
    """Compare a zone with what its provider has, and with `apply` make the provider's the same.

    Args:
        zone: Its name, without the last dot.
        make: Makes the zone's records; told whether they must be plain.
        config: As of octoDNS, with `providers`.
        target: The name of the provider that gets the zone. None: those that `config` names for the zone, or the only
            one that there is.
        apply: Whether to change anything.
        force: Whether to change a large part of a zone that has many records.

    Raises:
        SyncError: Nothing was changed, or the provider says why not all was.
    """
    with tempfile.TemporaryDirectory(prefix="fivenines-dns-") as folder:
        # octoDNS logs its trouble before it raises it; told once is enough.
        octodns_log = logging.getLogger("Manager")
        level = octodns_log.level
        octodns_log.setLevel(logging.CRITICAL)
        try:
            return _sync(Path(folder), f"{zone.rstrip('.')}.", make, config, target=target, apply=apply, force=force)
        finally:
            octodns_log.setLevel(level)


@contextmanager
def _telling() -> Iterator[None]:
    """Turn what octoDNS or a provider raises, which may be of any type, into `SyncError`."""
    try:
        yield
    except UnsafePlan as error:
        raise UnsafeSyncError(str(error)) from error
    except Exception as error:
        raise SyncError(f"{type(error).__name__}: {error}") from error


def _sync(
    folder: Path,
    zone: str,
    make: Callable[[bool], Export],
    config: Mapping[str, Any],
    *,
    target: str | None,
    apply: bool,
    force: bool,
) -> Outcome:
    own = {
        "class": "octodns.provider.yaml.YamlProvider",
        "directory": str(folder),
        "enforce_order": False,
        "escaped_semicolons": False,
    }
    targets = _targets(zone, config, target)
    processors = {
        **(config.get("processors") or {}),
        OWNER: {
            "class": "octodns.processor.ownership.OwnershipProcessor",
            "txt_name": OWNER_NAME,
            "txt_value": OWNER_VALUE,
        },
    }
    known = (config.get("zones") or {}).get(zone) or {}
    whole = {
        **config,
        "providers": {**config["providers"], SOURCE: own},
        "processors": processors,
        "zones": {
            zone: {
                "sources": [SOURCE],
                "targets": targets,
                "processors": [*(known.get("processors") or []), OWNER],
            }
        },
    }
    path = folder / "octodns.yaml"
    # It may hold a user's secrets; the folder is readable for nobody else.
    path.write_text(yaml.safe_dump(whole))
    with _telling():
        manager = Manager(str(path))
    path.unlink()
    plans = _Plans()
    manager.plan_outputs = {"fivenines": plans}
    for name in targets:
        # Which servers have the zone is the provider's own affair.
        manager.providers[name].root_ns_warnings = False
    simple = [name for name in targets if not manager.providers[name].SUPPORTS_DYNAMIC]
    exported = make(bool(simple))
    notices = [*exported.notices]
    if simple:
        notices.insert(
            0,
            f"{', '.join(simple)} does not know dynamic records: plain ones with the addresses of regions that serve "
            "now; nothing moves by itself, so run this again when a region is lost or comes back",
        )
    _write_zone(folder / f"{zone}yaml", exported.records)
    with _telling():
        applied = manager.sync(dry_run=not apply, force=force)
    return Outcome(changes=plans.changes, notices=tuple(notices), applied=applied)


def _targets(zone: str, config: Mapping[str, Any], target: str | None) -> list[str]:
    providers = config.get("providers")
    if not isinstance(providers, Mapping) or not providers:
        raise SyncError("the configuration names no providers")
    if target is not None:
        if target not in providers:
            raise SyncError(f"there is no provider {target!r}, but {', '.join(sorted(providers))}")
        return [target]
    zones = config.get("zones") or {}
    if named := (zones.get(zone) or {}).get("targets"):
        return list(named)
    if len(providers) > 1:
        raise SyncError(f"which of the providers {', '.join(sorted(providers))} gets the zone {zone}?")
    return list(providers)


def _write_zone(path: Path, records: Mapping[str, list[Record]]) -> None:
    """Write a zone as YamlProvider reads it: one record, or a list of them, for each name."""
    content = {name: found[0] if len(found) == 1 else found for name, found in records.items()}
    path.write_text(yaml.dump(content, Dumper=_NoAliases))


class _NoAliases(yaml.SafeDumper):
    """octoDNS reads aliases, too, but people do not."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return data is not None


class _Plans:
    """Keeps what octoDNS plans, in the place of printing it."""

    def __init__(self) -> None:
        self.changes: tuple[Change, ...] = ()

    def run(self, *, plans: list[tuple[Any, Any]], **_: Any) -> None:
        """Take the plans of all targets."""
        self.changes = tuple(_change(target, change) for target, plan in plans for change in plan.changes)


def _change(target: Any, change: Any) -> Change:
    record = change.record
    return Change(
        target=target.id,
        action=type(change).__name__.lower(),
        name=record.fqdn,
        type=record._type,  # noqa: SLF001 - octoDNS has no other name for it
        before=_told(change.existing),
        after=_told(change.new),
        is_marker=record.name.startswith(f"{OWNER_NAME}."),
    )


def _told(record: Any) -> str:
    """Say what a record holds, for people."""
    if record is None:
        return ""
    values = getattr(record, "values", None) or [getattr(record, "value", "")]
    lines = [f"{record.ttl} s  {' '.join(str(value) for value in values)}"]
    dynamic = getattr(record, "dynamic", None)
    if dynamic:
        for name, pool in sorted(dynamic.pools.items()):
            weighed = " ".join(f"{value['value']}x{value['weight']}" for value in pool.data["values"])
            fallback = f", else {pool.data['fallback']}" if pool.data["fallback"] else ""
            lines.append(f"{name}: {weighed}{fallback}")
        lines += [f"{' '.join(rule.data.get('geos', ['everybody']))} -> {rule.data['pool']}" for rule in dynamic.rules]
    with suppress(AttributeError, KeyError):
        check = record.octodns["healthcheck"]
        lines.append(f"checked by {check['protocol']} on {check['port']} {check.get('path', '')}".rstrip())
    return "\n".join(lines)
