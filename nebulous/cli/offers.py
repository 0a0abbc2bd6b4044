"""What could be rented now: the table of offers, and why everything else is out."""

from __future__ import annotations

from nebulous import durations
from nebulous.cli.screen import emit, note, structured
from nebulous.cli.tables import NOTHING, dollars, facts, prose, table
from nebulous.client import Api, Json

COLUMNS = ("PLATFORM", "REGION", "TYPE", "ACCELERATOR", "MARKET", "$/H", "PRICE FROM")
WIDE = ("ACCOUNT", "PRICE AT")
SHOWN = 10  # of the offers that `create --dry-run` prints; `nebu get offers` prints them all


def show(api: Api, query: Json, output: str) -> None:
    """Print what GET /v1/offers says."""
    foreseen = api.read("/v1/offers", **query)
    if output in {"json", "yaml"}:
        emit(structured(foreseen, output))
    elif output == "name":
        for offer in foreseen["offers"]:
            emit(str(offer["place"]))
    else:
        show_foreseen(foreseen, wide=output == "wide")


def show_foreseen(foreseen: Json, *, wide: bool = False, most: int | None = None) -> None:
    """Offers in the order in which they would be tried, then what is out, and why."""
    offers: list[Json] = foreseen["offers"]
    if offers:
        emit(offers_table(offers[:most], wide=wide))
        if most and len(offers) > most:
            note(f"and {len(offers) - most} more: nebu get offers")
        emit("\n" + prose(f"chosen: {offers[0]['place']} ({foreseen['why']})"))
    else:
        fate = "it would be invalid" if foreseen.get("rejected") else "it would be pending"
        emit(prose(f"no offer now; {fate}: {foreseen.get('problem') or 'nothing is offered'}"))
    if foreseen["out"]:
        emit("\n" + table(("OUT", "WHY"), [(_platform(each), each["reason"]) for each in foreseen["out"]]))
    if advice := _advice(foreseen["out"]):
        emit("\nWHAT TO DO\n" + facts(advice))


def _advice(out: list[Json]) -> list[tuple[str, str]]:
    """What to do about them, each advice once, with the platforms that it concerns."""
    concerned: dict[str, list[str]] = {}
    for each in out:
        name = _platform(each)
        if hint := each.get("hint"):
            concerned.setdefault(str(hint).replace(f"platform {name}", "platform NAME"), []).append(name)
    return [(", ".join(dict.fromkeys(names)), hint) for hint, names in concerned.items()]


def offers_table(offers: list[Json], *, wide: bool = False) -> str:
    """Cheapest first within what was wanted most; the market where any is spot, and always where there is room."""
    told = wide or any(offer.get("spot") for offer in offers)
    left_out = () if told else ("MARKET",)
    headers = COLUMNS + (WIDE if wide else ())
    shown = [place for place, header in enumerate(headers) if header not in left_out]
    rows = [_cells(offer, wide) for offer in offers]
    return table([headers[place] for place in shown], [[row[place] for place in shown] for row in rows])


def _cells(offer: Json, wide: bool) -> list[str]:
    name = str(offer["platform"])
    shown = [
        f"{name} (simulated)" if offer.get("simulated") and name != "sim" else name,
        str(offer.get("zone") or offer.get("region") or NOTHING),
        str(offer.get("instance_type") or NOTHING),
        str(offer.get("accelerator") or NOTHING),
        "spot" if offer.get("spot") else "on demand",
        dollars(offer.get("usd_per_hour")),
        _source(offer),
    ]
    if not wide:
        return shown
    return [*shown, str(offer.get("account") or NOTHING), str(offer.get("price_at") or NOTHING)]


def _source(offer: Json) -> str:
    """`simulated, 3s ago`."""
    source, age = offer.get("price_source"), offer.get("price_age_s")
    if not source:
        return NOTHING
    return str(source) if age is None else f"{source}, {durations.render(age)} ago"


def _platform(out: Json) -> str:
    return str(out.get("platform") or NOTHING)
