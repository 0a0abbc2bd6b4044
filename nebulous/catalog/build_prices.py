"""Make `prices.json`, the bundled on-demand prices: `python -m nebulous.catalog.build_prices TABLE…`.

A table is known by its name; what it says of types that the catalog does not have is left out:

- `prices_noted.yaml`, beside this module, always: what was read and noted by hand;
- `pricing.json` of the package apache-libcloud (Apache-2.0): GCE only. Of EC2 it mixes prices of dedicated machines
  into those on demand (of g5.48xlarge at home, for example, and of all m7g in us-east-2), and nothing tells which;
- `zz_generated.pricing_aws.go` of Karpenter's provider for AWS (Apache-2.0).

Where several know a price, the newest table counts. Spot prices are not bundled: they are old after a day.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import yaml

from nebulous import catalog

TARGET = Path(__file__).with_name("prices.json")
NOTED = Path(__file__).with_name("prices_noted.yaml")
Table = dict[str, Any]

#: Machines of GCE that accelerators are attached to; GiB for each processor.
N1_STANDARD, N1_SIZES = 3.75, (1, 2, 4, 8, 16, 32, 64, 96)


@dataclass
class Source:
    """One table of prices."""

    words: str  # where it is from, for people
    licence: str
    at: str  # RFC 3339
    platform: str
    prices: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])  # region -> type -> USD/h

    def add(self, region: str, kind: str, usd: float) -> None:
        """Take in one price; nothing is free, so zero is what somebody did not know."""
        if usd > 0:
            self.prices.setdefault(region, {})[kind] = float(f"{usd:.6g}")


def noted(path: Path) -> list[Source]:
    """What was noted by hand."""
    found: list[Source] = []
    for row in cast("list[Table]", yaml.safe_load(path.read_text())):
        source = Source(row["from"], row["licence"], row["at"], row["platform"])
        multiples: dict[str, dict[str, int]] = row.get("multiples", {})
        for region, prices in cast("dict[str, dict[str, float]]", row["prices"]).items():
            for family in row.get("composed", []):
                _sizes(source, region, family, prices)
            for kind, usd in prices.items():
                for larger, times in multiples.get(kind, {kind: 1}).items():
                    source.add(region, larger, usd * times)
        found.append(source)
    return found


def _sizes(source: Source, region: str, family: str, prices: dict[str, float]) -> None:
    """All sizes of a family that is priced by processors and accelerators alone, of the prices of two of them."""
    known = {shape.type: shape for shapes in catalog.load().shapes[source.platform].values() for shape in shapes}
    sizes = {kind: (each.vcpu or 0, each.count) for kind, each in known.items() if kind.startswith(f"{family}-")}
    told = [(*sizes[kind], usd) for kind, usd in prices.items() if kind in sizes]
    if len(told) < len(("a processor", "an accelerator")):
        return
    (cpu, count, usd), (cpu_more, count_more, usd_more) = told[:2]
    determinant = cpu * count_more - cpu_more * count
    a_processor = (usd * count_more - usd_more * count) / determinant
    an_accelerator = (cpu * usd_more - cpu_more * usd) / determinant
    for kind, (vcpu, accelerators) in sizes.items():
        source.add(region, kind, vcpu * a_processor + accelerators * an_accelerator)


def karpenter(path: Path) -> list[Source]:
    """The Go source of a table: `"us-east-1": {` then `"g5.xlarge": 1.006000,`."""
    text, region = path.read_text(), ""
    at = re.search(r"generated at (\S+)", text)
    if at is None:
        raise ValueError(f"{path.name} does not say when it was generated")
    source = Source("on-demand prices in Karpenter's provider for AWS", "Apache-2.0", at[1], "ec2")
    for name, usd in re.findall(r'"([a-z0-9.-]+)":\s*(?:\{|([0-9.]+))', text):
        if usd:
            source.add(region, name, float(usd))
        else:
            region = name
    return [source]


def libcloud(path: Path) -> list[Source]:
    """GCE's processors and memory, of apache-libcloud."""
    table: Table = json.loads(path.read_text())
    at = datetime.fromtimestamp(int(table["updated"]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    source = Source("libcloud/data/pricing.json of the package apache-libcloud", "Apache-2.0", at, "gce")
    _compose(source, table["compute"]["gce_instances"])
    return [source]


def _compose(source: Source, families: Table) -> None:
    """GCE sells processors and memory; a machine type costs what it is made of."""
    types = {shape.type: (shape.vcpu or 0, shape.memory_gib or 0.0) for shape in catalog.machines("gce")}
    types["e2-medium"] = (1, 4)  # two shared processors that are billed as one
    types |= {f"n1-standard-{size}": (size, size * N1_STANDARD) for size in N1_SIZES}
    for kind, (vcpu, memory_gib) in types.items():
        parts = families[kind.partition("-")[0]]
        for region, core in parts["cpu"]["on_demand"].items():
            gib = parts["ram"]["on_demand"].get(region, {}).get("price", 0)
            if core["price"] and gib:
                source.add(region, kind, vcpu * core["price"] + memory_gib * gib)


READERS: dict[str, Callable[[Path], list[Source]]] = {
    "prices_noted.yaml": noted,
    "pricing.json": libcloud,
    "zz_generated.pricing_aws.go": karpenter,
}


def build(paths: Iterable[Path]) -> Table:
    """Merge tables: the newest that knows a price counts."""
    sources = sorted((each for path in paths for each in READERS[path.name](path)), key=lambda each: each.at)
    merged: dict[str, dict[str, dict[str, tuple[int, float]]]] = {"ec2": {}, "gce": {}}
    for number, source in enumerate(sources):
        for region, prices in source.prices.items():
            here = merged[source.platform].setdefault(region, {})
            here |= {kind: (number, usd) for kind, usd in prices.items() if kind in _wanted(source.platform)}
    return {
        "sources": [{"from": each.words, "licence": each.licence, "at": each.at} for each in sources],
        "prices": {platform: _by_source(regions) for platform, regions in merged.items()},
    }


def _wanted(platform: str) -> set[str]:
    """The instance types that the catalog has, and those that accelerators are attached to."""
    types = {shape.type for shapes in catalog.load().shapes[platform].values() for shape in shapes}
    types |= {shape.type for shape in catalog.machines(platform)}
    return types | ({f"n1-standard-{size}" for size in N1_SIZES} if platform == "gce" else set())


def _by_source(regions: dict[str, dict[str, tuple[int, float]]]) -> Table:
    """Region -> number of the source -> type -> USD an hour."""
    table: Table = {}
    for region in sorted(regions):
        for kind, (number, usd) in sorted(regions[region].items()):
            table.setdefault(region, {}).setdefault(str(number), {})[kind] = usd
    return table


def main(arguments: list[str]) -> int:
    """Write the file beside this module."""
    paths = [NOTED, *map(Path, arguments)]
    unknown = [path.name for path in paths if path.name not in READERS]
    if unknown:
        print(f"not known by name: {', '.join(unknown)}; known are {', '.join(READERS)}", file=sys.stderr)  # noqa: T201
        return 2
    TARGET.write_text(json.dumps(build(paths), indent=None, separators=(",", ":")).replace('},"', '},\n"') + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
