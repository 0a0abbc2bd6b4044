"""Bundled prices: known ones with their date and source, and nothing where nobody knows; how the file is made."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from nebulous import catalog
from nebulous.catalog import build_machines, build_prices, prices

NOTED = """
- from: a table
  licence: Apache-2.0
  at: "2026-01-01T00:00:00Z"
  platform: ec2
  prices: {us-east-1: {g5.xlarge: 2, z9: 1}}
- from: another
  licence: Apache-2.0
  at: "2025-01-01T00:00:00Z"
  platform: gce
  multiples: {a2-highgpu-1g: {a2-highgpu-1g: 1, a2-highgpu-8g: 8}}
  composed: [g2-standard]
  prices: {us-central1: {a2-highgpu-1g: 3.5, g2-standard-4: 0.9, g2-standard-48: 6.8}, us-east1: {g2-standard-4: 1}}
"""
KARPENTER = """
// generated at 2026-06-01T00:00:00Z for us-east-1
var InitialOnDemandPricesAWS = map[string]map[ec2types.InstanceType]float64{
\t"us-east-1": {
\t\t"g5.xlarge": 1.500000, "t3.medium": 0.040000, "x1.32xlarge": 13.000000,
\t},
\t"eu-west-1": {
\t\t"g5.2xlarge": 1.700000, "t3.medium": 0.000000,
\t},
}
"""


def part(usd: float) -> dict:
    return {"on_demand": {"us-central1": {"price": usd}, "us-east4": {"price": 0}}}


def libcloud() -> str:
    families = {name: {"cpu": part(0.02), "ram": part(0.003)} for name in ("e2", "n1", "n2")}
    return json.dumps({"updated": 1_740_936_978, "compute": {"gce_instances": families, "ec2_linux": {}}})


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    given = {"prices_noted.yaml": NOTED, "zz_generated.pricing_aws.go": KARPENTER, "pricing.json": libcloud()}
    for name, text in given.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in given]


def test_a_price_has_a_date_and_a_source():
    price = prices.bundled("ec2", "g5.xlarge", "us-east-1")
    assert price is not None
    assert (price.usd_per_hour, price.source, price.at) == (1.006, "bundled", "2026-01-19T13:23:24Z")
    assert prices.bundled("gce", "a2-highgpu-8g", "us-central1") == prices.Price(
        29.3871, "bundled", "2025-03-06T03:53:56Z"
    )


@pytest.mark.parametrize(
    ("platform", "kind", "region"),
    [
        ("ec2", "g5.xlarge", "mars-1"),
        ("ec2", "g99.xlarge", "us-east-1"),
        ("gce", "a4-highgpu-8g", "us-central1"),
        ("runpod", "NVIDIA A40", "EU-SE-1"),
        ("docker", "", ""),
    ],
)
def test_what_nobody_noted_is_unknown_and_never_zero(platform: str, kind: str, region: str):
    assert prices.bundled(platform, kind, region) is None


def test_spot_prices_are_never_bundled():
    assert prices.bundled("ec2", "g5.xlarge", "us-east-1", spot=True) is None


def test_every_bundled_price_is_positive_of_a_type_that_is_asked_for_and_of_a_source_with_licence_and_past_date():
    bundle = prices.load()
    now = datetime.now(UTC)
    for source in bundle["sources"]:
        assert source["licence"] == "Apache-2.0"
        assert datetime.fromisoformat(source["at"]) < now
    count = 0
    for platform, regions in bundle["prices"].items():
        wanted = build_prices._wanted(platform)
        for by_source in regions.values():
            for number, found in by_source.items():
                assert int(number) < len(bundle["sources"])
                assert set(found) <= wanted
                assert all(0 < usd < 300 for usd in found.values())
                count += len(found)
    assert count > 800


def test_larger_sisters_cost_more():
    for platform, region in (("ec2", "us-east-1"), ("gce", "us-central1")):
        families: dict[str, list[tuple[float, float]]] = {}
        for shape in catalog.machines(platform):
            price = prices.bundled(platform, shape.type, region)
            if price:
                family = shape.type.rpartition("-")[0] or shape.type.partition(".")[0]
                families.setdefault(family, []).append((shape.vcpu or 0, price.usd_per_hour))
        assert len(families) > 4
        for sizes in families.values():
            assert [usd for _, usd in sorted(sizes)] == sorted(usd for _, usd in sizes)


def test_the_wheel_stays_small():
    assert prices.SOURCE.stat().st_size < 300_000


def test_tables_are_merged_the_newest_wins_and_zero_is_unknown(tables: list[Path]):
    made = build_prices.build(tables)
    by_words = {source["from"]: str(number) for number, source in enumerate(made["sources"])}
    karpenter, noted = by_words["on-demand prices in Karpenter's provider for AWS"], by_words["another"]
    assert made["prices"]["ec2"] == {
        "eu-west-1": {karpenter: {"g5.2xlarge": 1.7}},
        "us-east-1": {karpenter: {"g5.xlarge": 1.5, "t3.medium": 0.04}},
    }
    central = made["prices"]["gce"]["us-central1"]
    assert {kind: usd for kind, usd in central[noted].items() if kind.startswith("a2")} == {
        "a2-highgpu-1g": 3.5,
        "a2-highgpu-8g": 28,
    }
    assert central[noted]["g2-standard-4"] == 0.9, "0.1 for a processor, 0.5 for an accelerator"
    assert central[noted]["g2-standard-16"] == pytest.approx(16 * 0.1 + 0.5)
    assert central[noted]["g2-standard-96"] == pytest.approx(96 * 0.1 + 8 * 0.5)
    assert made["prices"]["gce"]["us-east1"] == {noted: {"g2-standard-4": 1}}, "one size tells nothing of the others"
    components = central[by_words["libcloud/data/pricing.json of the package apache-libcloud"]]
    assert components["n2-standard-2"] == pytest.approx(2 * 0.02 + 8 * 0.003)
    assert components["e2-medium"] == pytest.approx(0.02 + 4 * 0.003)
    assert components["n1-standard-4"] == pytest.approx(4 * 0.02 + 15 * 0.003)
    assert "us-east4" not in made["prices"]["gce"], "where a part has no price the machine has none"


def test_the_command_writes_the_file_and_names_what_it_cannot_read(
    tables: list[Path], tmp_path: Path, monkeypatch, capsys
):
    target = tmp_path / "prices.json"
    monkeypatch.setattr(build_prices, "TARGET", target)
    monkeypatch.setattr(build_prices, "NOTED", tables[0])
    assert build_prices.main([str(path) for path in tables[1:]]) == 0
    assert json.loads(target.read_text()) == build_prices.build(tables)
    assert build_prices.main(["prices.csv"]) == 2
    assert "not known by name: prices.csv" in capsys.readouterr().err


def test_a_table_without_a_date_is_refused(tmp_path: Path):
    path = tmp_path / "zz_generated.pricing_aws.go"
    path.write_text('"us-east-1": {"g5.xlarge": 1.0}')
    with pytest.raises(ValueError, match="does not say when"):
        build_prices.build([path])


def test_machines_without_accelerators_are_as_their_builder_makes_them(tmp_path: Path, monkeypatch):
    target = tmp_path / "machines.yaml"
    monkeypatch.setattr(build_machines, "TARGET", target)
    assert build_machines.main() == 0
    made = yaml.safe_load(target.read_text())
    kept = yaml.safe_load(catalog.MACHINES.read_text())
    assert made["machines"]["gce"] == kept["machines"]["gce"]
    assert {row["type"] for row in kept["machines"]["ec2"]} <= {row["type"] for row in made["machines"]["ec2"]}


def test_machines_are_listed_smallest_first_with_their_regions():
    machines = catalog.machines("ec2")
    assert [each.vcpu for each in machines] == sorted(each.vcpu or 0 for each in machines)
    assert all(each.count == 0 and each.accelerator == "" and each.regions for each in machines)
    assert {each.cpu for each in machines} == {"x86_64", "arm64"}
    assert catalog.machines("runpod") == catalog.machines("docker") == ()
    assert "us-east-1" in catalog.regions("ec2")
    assert "EU-SE-1" in catalog.regions("runpod")
    assert catalog.regions("docker") == []
