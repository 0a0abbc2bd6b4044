"""`nebu get`: lists, and single resources as the API has them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from nebulous.cli import options
from nebulous.cli.actions import labelled
from nebulous.cli.failures import UsageError
from nebulous.cli.lookup import connect
from nebulous.cli.names import Selection, Target, is_kind, kind_of, select
from nebulous.cli.screen import emit, note, structured
from nebulous.client import Json
from nebulous.errors import NebulousError
from nebulous.models.kinds import Kind

OFFERS = ("offers", "offer")

Output = Literal["table", "wide", "json", "yaml", "name"]


def command(
    what: Annotated[str, typer.Argument(metavar="KIND", help="A kind, or accelerators, platforms, offers.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = "table",
    namespace: options.Namespace = None,
    everywhere: Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces (the default).")] = False,
    labels: options.Labels = None,
    owner: options.Owner = None,
    status: Annotated[str | None, typer.Option("--status", help="Only those of this status.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Only those of this queue.")] = None,
    platform: Annotated[
        str | None, typer.Option("--platform", help="Accelerators, or offers, of this platform only.")
    ] = None,
    accelerators: Annotated[
        list[str] | None, typer.Option("--accelerators", metavar="N:NAME", help="Offers with these; repeat.")
    ] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Offers that the cloud may take back.")] = False,
    regions: Annotated[
        list[str] | None, typer.Option("--region", "--regions", help="Offers only there; repeat.")
    ] = None,
    max_price: Annotated[float | None, typer.Option("--max-price", help="Offers up to this, USD per hour.")] = None,
    min_cpu: Annotated[float | None, typer.Option("--min-cpu", help="Offers with so many processors.")] = None,
    min_memory: Annotated[float | None, typer.Option("--min-memory", help="Offers with so much memory, GiB.")] = None,
    ip: Annotated[bool, typer.Option("--ip", help="Print the address of one container.")] = False,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Then a line for each change, until Ctrl-C.")] = False,
    watch_only: Annotated[bool, typer.Option("--watch-only", help="Likewise, without what is there now.")] = False,
) -> None:
    """List resources, or show one: `nebu get containers`, `nebu get containers foo`, `nebu get accelerators`."""
    if watch or watch_only:
        from nebulous.cli import watch as watching

        if ip or status or queue or platform:
            raise UsageError("-w goes with -n, -l and --owner: not with --ip, --status, --queue or --platform")
        watching.command(what, names, output, namespace, everywhere, labels, owner, watch_only)
        return
    from nebulous.cli import catalog, offers

    asked = {
        "accelerators": accelerators,
        "spot": spot or None,
        "regions": regions,
        "max_price": max_price,
        "min_cpu": min_cpu,
        "min_memory": min_memory,
    }
    if what.lower() in OFFERS:
        offers.show(connect().api, {**asked, "platform": platform}, output)
        return
    if any(asked.values()):
        words = "--accelerators, --spot, --region, --max-price, --min-cpu and --min-memory"
        raise UsageError(f"{words} go with `nebu get offers`")
    if what.lower() in catalog.TABLES:
        catalog.show(catalog.TABLES[what.lower()], connect().api, platform, output)
        return
    if everywhere and namespace:
        raise UsageError("-n and -A contradict each other: give one of them")
    selection = selection_of(what, names or [])
    lookup = connect().within(namespace, owner)
    if ip:
        emit(_address(lookup.find(selection.only())))
    elif selection.targets:
        rows = [lookup.find(target) for target in selection.targets]
        _show(selection.kind, rows, output, single=len(rows) == 1)
    else:
        rows = lookup.rows(selection.kind, labels, status=status, queue=queue)
        _show(selection.kind, rows, output, single=False)
        if not rows and output in {"table", "wide"}:
            where = f" in namespace {namespace}" if namespace else ""
            note(f"no {selection.kind.plural}{labelled(labels)}{where}")


def selection_of(what: str, names: list[str]) -> Selection:
    """Here the first word is always a kind, so that a mistyped one is not taken for a container."""
    if not is_kind(what.partition("/")[0]):
        try:
            kind_of(what)
        except UsageError as error:
            hint = f"{error.hint}; one container: nebu get containers {what}"
            raise UsageError(error.message, hint) from error
    return select([what, *names])


#: A machine is looked for; the address of the one before may be a stranger's by now.
LOOKING = frozenset({"creating", "pending"})


def _address(row: Json) -> str:
    address = row["status"].get("ip")
    if address and row["status"]["status"] not in LOOKING:
        return str(address)
    name, status = row["metadata"]["name"], row["status"]["status"]
    platform = row["status"].get("platform") or "its platform"
    if status == "running":
        raise NebulousError(f"container/{name} has no address of its own", f"{platform} gives none")
    raise NebulousError(f"container/{name} has no address: it is {status}", "it has one while it runs")


def _show(kind: Kind, rows: list[Json], output: Output, single: bool) -> None:
    if output in {"json", "yaml"}:
        emit(structured(rows[0] if single else {kind.plural: rows}, output))
    elif output == "name":
        for row in rows:
            emit(str(Target(kind, row["metadata"]["name"])))
    elif rows:
        from nebulous.cli.views import listing

        emit(listing(kind, rows, wide=output == "wide"))
