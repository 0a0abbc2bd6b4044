"""What accelerators are called, and where they can be had."""

import pytest

from nebulous import catalog
from nebulous.errors import Rejected
from nebulous.models.base import InvalidDocument


def refused(platform: str | None, *entries: str) -> InvalidDocument:
    with pytest.raises(InvalidDocument) as caught:
        catalog.check_on(platform, list(entries))
    return caught.value


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("L40s", ["L40S"]),
        ("l40s", ["L40S"]),
        ("A100", ["A100-80GB-SXM", "A100-80GB-PCIE", "A100-40GB-SXM", "A100-40GB-PCIE"]),
        ("a100-80gb", ["A100-80GB-SXM", "A100-80GB-PCIE"]),
        ("A100-40GB", ["A100-40GB-SXM", "A100-40GB-PCIE"]),
        ("A100-80GB-PCIe", ["A100-80GB-PCIE"]),
        ("A100-SXM4-80GB", ["A100-80GB-SXM"]),
        ("A100_SXM", ["A100-80GB-SXM", "A100-40GB-SXM"]),
        ("H100", ["H100-SXM", "H100-PCIE", "H100-NVL"]),
        ("H200-143GB", ["H200-SXM", "H200-NVL"]),  # as RunPod counts it
        ("L40S-48GB", ["L40S"]),
        ("V100-32GB", ["V100-32GB"]),
        ("V100_SXM2", ["V100-16GB"]),
        ("NVIDIA GeForce RTX 4090", ["RTX-4090"]),
        ("nvidia-tesla-t4", ["T4"]),
        ("RTX_6000_Ada", ["RTX-6000-ADA"]),
        ("A6000", ["RTX-A6000"]),
        ("RTX-PRO-6000", ["RTX-PRO-6000", "RTX-PRO-6000-WK", "RTX-PRO-6000-MAXQ"]),
        ("RTX-PRO-6000-SERVER", ["RTX-PRO-6000"]),
        ("AMD Instinct MI300X", ["MI300X"]),
    ],
)
def test_an_accelerator_is_found_by_what_people_call_it(name: str, members: list[str]):
    assert catalog.lookup(name) == members


def test_every_name_alias_and_cloud_id_of_the_catalog_finds_its_member():
    for name, row in catalog.load().accelerators.items():
        assert name in catalog.lookup(name)
        for alias in row.get("aliases", []):
            assert catalog.lookup(alias) == [name]
        for given in row.get("ids", {}).values():
            for spelling in [given] if isinstance(given, str) else given:
                members = catalog.lookup(spelling)
                assert name in members or members == catalog.lookup(name.split("-")[0])


def test_the_members_usual_on_a_platform_come_first():
    assert catalog.lookup("A100", "runpod")[0] == "A100-80GB-PCIE"
    assert catalog.lookup("A100", "ec2")[0] == "A100-40GB-SXM"
    assert sorted(catalog.lookup("A100", "ec2")) == sorted(catalog.lookup("A100"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("L40SS", "did you mean L40S or L40?"),
        ("H1000", "did you mean H100"),
        ("4090", "did you mean RTX-4090?"),
        ("toaster", "list them with: nebu get accelerators"),
        ("NVIDIA", "list them with: nebu get accelerators"),
        ("A100-60GB", "known are A100-80GB-SXM (80 GiB), A100-80GB-PCIE (80 GiB), A100-40GB-SXM (40 GiB) or A100-40"),
    ],
)
def test_an_unknown_accelerator_is_refused_with_the_nearest(name: str, hint: str):
    with pytest.raises(Rejected, match=f"unknown accelerator '{name}'") as caught:
        catalog.lookup(name)
    assert (caught.value.hint or "").startswith(hint)


def test_an_entry_is_a_count_and_members():
    assert catalog.resolve("4:A100-80GB") == (4, ["A100-80GB-SXM", "A100-80GB-PCIE"])
    with pytest.raises(Rejected, match="is not COUNT:NAME"):
        catalog.resolve("A100")


def test_the_clouds_that_rent_an_accelerator_are_known_with_their_counts():
    assert catalog.platforms_with("A100-80GB-SXM") == {
        "runpod": [1, 2, 3, 4, 5, 6, 7, 8],
        "ec2": [8],
        "gce": [1, 2, 4, 8],
    }
    assert catalog.platforms_with("A40").keys() == {"runpod"}
    assert catalog.platforms_with("A16") == {}


def test_a_shape_is_an_instance_type_with_its_regions():
    (shape,) = catalog.shapes("ec2", "H100-SXM", 1)
    assert (shape.type, shape.count, shape.vcpu, shape.memory_gib) == ("p5.4xlarge", 1, 16, 256)
    assert "us-east-1" in shape.regions
    assert {shape.type for shape in catalog.shapes("ec2", "H200-SXM")} == {"p5e.48xlarge", "p5en.48xlarge"}
    assert catalog.shapes("ec2", "H100-SXM", 3) == catalog.shapes("nowhere", "H100-SXM") == []


def test_sizes_at_runpod_grow_with_the_count():
    (two,) = catalog.shapes("runpod", "A40", 2)
    assert (two.type, two.vcpu, two.memory_gib) == ("NVIDIA A40", 18, 96)


def test_a_slice_of_an_accelerator_is_no_shape():
    assert all(shape.count for by_name in catalog.load().shapes.values() for rows in by_name.values() for shape in rows)


def test_the_list_shows_what_can_be_had_and_where():
    rows = {row["name"]: row for row in catalog.accelerators()}
    assert rows["A100-40GB-SXM"]["platforms"] == {"ec2": [8], "gce": [1, 2, 4, 8, 16]}
    assert "A100" in rows["A100-40GB-SXM"]["aliases"]
    assert "A16" not in rows
    assert {row["name"] for row in catalog.accelerators("ec2")} < rows.keys()
    assert catalog.accelerators("docker") == []


@pytest.mark.parametrize(
    ("platform", "entries"),
    [
        ("runpod", ["4:A100"]),
        ("ec2", ["1:L40s"]),
        ("ec2", ["8:A100"]),
        ("gce", ["1:A40", "1:L4"]),  # one entry that can be had is enough
        ("docker", ["1:A40"]),  # who knows what is in that machine
        ("sim", ["3:A100"]),
        (None, ["64:H100"]),
        ("ec2", []),
    ],
)
def test_what_may_be_had_is_let_through(platform: str | None, entries: list[str]):
    catalog.check_on(platform, entries)


def test_what_a_cloud_does_not_have_at_all_is_refused_with_who_has_it():
    error = refused("gce", "1:A40")
    assert str(error) == "accelerators[0]: gce has no A40"
    assert error.hint == "1:A40 is on runpod"


def test_a_count_that_a_cloud_does_not_have_is_refused_with_the_nearest():
    error = refused("ec2", "4:A100")
    assert str(error) == "accelerators[0]: ec2 has no 4:A100"
    assert error.hint == "nearest on ec2: 8:A100; 4:A100 is on gce, runpod"


def test_a_count_that_nobody_has_is_refused_as_such():
    assert refused("ec2", "64:H100").hint == "nearest on ec2: 8:H100; no known cloud has 64:H100"


def test_unknown_names_are_refused_wherever_they_may_go_each_with_its_place():
    error = refused(None, "1:A100", "1:L40SS", "x")
    assert [problem.path for problem in error.problems] == [("accelerators", 1), ("accelerators", 2)]
    assert "did you mean L40S or L40?" in (error.hint or "")
