"""`fivenines nameserver` answers for the platform's zone; `fivenines dns sync` hands its policy to a DNS provider."""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from fivenines.cli.output import (
    JSON,
    CommandFailedError,
    configure_logs,
    counted,
    errors,
    out,
    print_json,
    telling_errors,
)

if TYPE_CHECKING:
    from fivenines.traffic.octodns_export import HealthCheck
    from fivenines.traffic.octodns_sync import Outcome
    from fivenines.traffic.table import SteeringTable

__all__ = ["register"]

_NAMESERVER_EXAMPLES = """
[bold]Examples[/]

  fivenines nameserver --table steering.json              at 127.0.0.1:5353, UDP and TCP
  fivenines nameserver --table steering.json --port 0 --json | head -1
                                                          {"event":"ready","port":...} for a program to wait for
  dig @127.0.0.1 -p 5353 api.bank.test
"""

_SYNC_EXAMPLES = """
[bold]Examples[/]

  fivenines dns sync steering.json --config octodns.yaml       what would change at the provider; --apply does it
  fivenines dns sync platform.yaml --config octodns.yaml --address eu-west=192.0.2.1 --address us-east=198.51.100.1
  fivenines dns sync steering.json --target octodns.provider.yaml:YamlProvider --option directory=./zones
"""

_ACTION_STYLES = {"create": "green", "update": "yellow", "delete": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(epilog=_NAMESERVER_EXAMPLES)(nameserver)
    dns = typer.Typer(help="Hand the steering policy to a DNS provider.", no_args_is_help=True)
    dns.callback()(_about_dns)
    dns.command(epilog=_SYNC_EXAMPLES)(sync)
    app.add_typer(dns, name="dns")


def _about_dns() -> None:
    """Hand the steering policy to a DNS provider."""


def nameserver(
    table: Annotated[
        Path, typer.Option(metavar="FILE", help="The steering table; it may come later, and is read when it changes.")
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen on, UDP and TCP; 0 takes a free one.", min=0, max=65535)
    ] = 5353,
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Answer GET /metrics there, at the same address; 0 takes a free one.", min=0, max=65535),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON, logs too.")] = False,
) -> None:
    """Answer for the platform's zone until Ctrl-C or SIGTERM, by a steering table that somebody else writes.

    Until there is a table the answer is SERVFAIL, and resolvers ask another nameserver. A table that makes no sense is
    logged and kept out: the one before stays in force.
    """
    import uvloop

    from fivenines.traffic.nameserver import Nameserver, NameserverSettings

    configure_logs(as_json=json)
    settings = NameserverSettings(table=table, host=host, port=port, metrics_port=metrics_port)

    def tell_ready(port: int, metrics_port: int | None) -> None:
        if json:
            metrics = {} if metrics_port is None else {"metrics_port": metrics_port}
            print_json({"event": "ready", "host": host, "port": port} | metrics)
        else:
            errors.print(
                f"[bold green]fivenines[/] answers names at [bold]{host}:{port}[/] by [bold]{table}[/]\n"
                "Ctrl-C stops it.",
                soft_wrap=True,
            )

    async def run() -> None:
        server = Nameserver(settings)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        await server.serve(tell_ready)

    with telling_errors():
        try:
            uvloop.run(run())
        except OSError as error:
            raise CommandFailedError(
                f"{error.strerror or error}: {host}:{port}",
                hint="choose another address with --host, or another port with --port; 0 takes a free one",
            ) from error


def sync(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE_OR_PLATFORM",
            help="A steering table (JSON), or a platform.yaml with --address for each region.",
        ),
    ],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="octoDNS's own configuration, with the providers.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The provider of --config that gets the zone; without it MODULE:CLASS of a provider."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="With MODULE:CLASS: what it is built with; env/NAME is looked up."),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="REGION=IP", help="Where the edge of a region is reached from outside; may come twice."),
    ] = None,
    ttl: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="How long answers are kept; default: the table's.", min=1)
    ] = None,
    check: Annotated[
        str, typer.Option(metavar="URL", help="How the provider checks an address: http:, https: or tcp:, port, path.")
    ] = "http://:9959/ready",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing, only show; so it is without --apply.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Change what the plan shows.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where a large part of a large zone changes.")] = False,
    json: JSON = False,
) -> None:
    """Show what would change at a DNS provider for it to carry out the policy, and with --apply change it.

    It goes by octoDNS, and so to all providers that octoDNS knows. Only records of ours are touched: a TXT record
    beside each, named _fivenines..., says which those are.
    """
    configure_logs(as_json=json)
    with telling_errors():
        if apply and dry_run:
            raise CommandFailedError("--apply and --dry-run contradict each other", hint="leave one of them out")
        table, checks = _read_source(source, _addresses(address or []))
        settings, name = _provider(config, target, option or [])
        outcome = _sync(table, checks, _check(check), settings, name, ttl_s=ttl, apply=apply, force=force)
    if json:
        print_json({"zone": table.zone, "is_applied": apply} | msgspec.to_builtins(outcome))
    else:
        _show(table.zone, outcome, is_applied=apply)


def _sync(
    table: "SteeringTable",
    checks: "Mapping[str, HealthCheck]",
    check: "HealthCheck",
    settings: Mapping[str, Any],
    name: str | None,
    *,
    ttl_s: int | None,
    apply: bool,
    force: bool,
) -> "Outcome":
    from fivenines.traffic.octodns_export import Export, export
    from fivenines.traffic.zone import TableError

    try:
        from fivenines.traffic.octodns_sync import SyncError, UnsafeSyncError
        from fivenines.traffic.octodns_sync import sync as sync_zone
    except ImportError as error:
        raise CommandFailedError(
            f"handing names to a provider needs what is not installed: {error.name}",
            hint="pip install 'fivenines[dns]', and the provider's own package, such as octodns-route53",
        ) from error

    def make(plain: bool) -> Export:
        return export(table, checks=checks, check=check, ttl_s=ttl_s, plain=plain)

    try:
        return sync_zone(table.zone, make, settings, target=name, apply=apply, force=force)
    except UnsafeSyncError as error:
        raise CommandFailedError(str(error), hint="look at the plan without --apply, then add --force") from error
    except (SyncError, TableError) as error:
        raise CommandFailedError(str(error)) from error


def _read_source(
    path: Path, addresses: Mapping[str, tuple[str, ...]]
) -> "tuple[SteeringTable, Mapping[str, HealthCheck]]":
    from fivenines.traffic.table import read_table

    checks: Mapping[str, HealthCheck] = {}
    try:
        if path.suffix in {".yaml", ".yml"}:
            table, checks = _read_platform(path)
        else:
            table = read_table(path)
    except OSError as error:
        raise CommandFailedError(f"{error.strerror}: {path}") from error
    except msgspec.MsgspecError as error:
        raise CommandFailedError(f"{path} is no steering table: {error}") from error
    names = {region.name for region in table.regions}
    if unknown := addresses.keys() - names:
        raise CommandFailedError(
            f"--address: there is no region {', '.join(sorted(unknown))}", hint=f"there are {', '.join(sorted(names))}"
        )
    regions = tuple(
        msgspec.structs.replace(region, addresses=addresses.get(region.name, region.addresses))
        for region in table.regions
    )
    if missing := [region.name for region in regions if not region.addresses]:
        raise CommandFailedError(
            f"where are the edges of {', '.join(missing)}? A platform.yaml does not say at which addresses clients "
            "reach them",
            hint=f"add --address {missing[0]}=IP, and so on",
        )
    return msgspec.structs.replace(table, regions=regions), checks


def _read_platform(path: Path) -> "tuple[SteeringTable, Mapping[str, HealthCheck]]":
    """Return the table of a platform that is as declared, without addresses, and the checks of its services."""
    from fivenines.platform.loading import PlatformFileError, load
    from fivenines.traffic.octodns_export import HealthCheck
    from fivenines.traffic.table import SteeredRegion, SteeringTable

    try:
        declared = load(path)
    except PlatformFileError as error:
        raise CommandFailedError(str(error)) from error
    regions = tuple(
        SteeredRegion(
            name=region.name,
            addresses=(),
            nameserver="",
            weight=region.weight,
            share=1.0 if region.mode == "active" else 0.0,
            rank=rank,
            latitude=region.point.latitude if region.point else None,
            longitude=region.point.longitude if region.point else None,
        )
        for rank, region in enumerate(declared.serving_regions)
    )
    checks = {
        service.name: HealthCheck(protocol="HTTP", port=service.edge_port, path=service.probes.readiness.path)
        if service.protocol == "http" and service.probes.readiness.path
        else HealthCheck(protocol="TCP", port=service.edge_port)
        for service in declared.services
    }
    table = SteeringTable(
        zone=declared.zone,
        serial=1,
        here=regions[0].name if regions else "",
        policy=declared.traffic.policy,
        ttl_s=declared.traffic.ttl_s,
        answers_max=declared.traffic.answers_max,
        names=("api", *checks),
        regions=regions,
    )
    return table, checks


def _addresses(given: list[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        region, equals, address = text.partition("=")
        if not region or not equals or not address:
            raise CommandFailedError(f"--address: {text!r} is not REGION=IP")
        found[region] = (*found.get(region, ()), address)
    return found


def _check(url: str) -> "HealthCheck":
    from urllib.parse import urlsplit

    from fivenines.traffic.octodns_export import HealthCheck

    hint = "it looks like https://:443/ready, https://HOST:443/ready or tcp://:9959"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CommandFailedError(f"--check: {url!r}: {error}", hint=hint) from error
    if port is None or parts.scheme not in {"http", "https", "tcp"}:
        raise CommandFailedError(f"--check: {url!r} has no port, or another scheme", hint=hint)
    return HealthCheck(
        protocol="TCP" if parts.scheme == "tcp" else "HTTPS" if parts.scheme == "https" else "HTTP",
        port=port,
        path=parts.path or "/",
        host=parts.hostname or "",
    )


def _provider(config: Path | None, target: str | None, options: list[str]) -> tuple[dict[str, Any], str | None]:
    """Return octoDNS's configuration, and which of its providers is meant."""
    import yaml

    if config is not None:
        if options:
            raise CommandFailedError("--option belongs to --target MODULE:CLASS; with --config the file has them")
        try:
            settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        except OSError as error:
            raise CommandFailedError(f"{error.strerror}: {config}") from error
        except yaml.YAMLError as error:
            raise CommandFailedError(f"{config} is no YAML: {error}") from error
        if not isinstance(settings, dict) or not isinstance(settings.get("providers"), dict):
            raise CommandFailedError(f"{config}: it has no providers, so it is no configuration of octoDNS")
        return settings, target
    module, colon, class_ = (target or "").partition(":")
    if not module or not colon or not class_:
        raise CommandFailedError(
            "which provider gets the zone?" if target is None else f"--target: {target!r} is not MODULE:CLASS",
            hint="--config octodns.yaml, or --target octodns_route53:Route53Provider --option KEY=VALUE",
        )
    built: dict[str, Any] = {"class": f"{module}.{class_}"}
    for text in options:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise CommandFailedError(f"--option: {text!r} is not KEY=VALUE")
        built[key] = yaml.safe_load(value)
    return {"providers": {"provider": built}}, "provider"


def _show(zone: str, outcome: "Outcome", *, is_applied: bool) -> None:
    for notice in outcome.notices:
        errors.print(Text.assemble(("note:", "bold yellow"), " ", notice), soft_wrap=True)
    if not outcome.changes:
        out.print(f"{zone}: nothing to change")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "name", "type", "is now", "becomes"):
        table.add_column(heading, overflow="fold")
    for change in outcome.changes:
        if change.is_marker:
            continue
        style = _ACTION_STYLES.get(change.action, "")
        cells = (change.name, change.type, change.before, change.after)
        table.add_row(Text(change.action, style), *map(Text, cells))
    out.print(table)
    count, markers = len(outcome.changes), sum(change.is_marker for change in outcome.changes)
    told = f"{counted(count - markers, 'change')} of records and {counted(markers, 'change')} of their markers"
    out.print(f"\n{zone}: {told}, {'made' if is_applied else 'none made: --apply makes them'}", soft_wrap=True)
