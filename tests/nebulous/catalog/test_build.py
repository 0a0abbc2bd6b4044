"""The catalog is what the build makes of a research file."""

from pathlib import Path

import yaml

from nebulous.catalog import build

SOURCE = """
generated: 2026-01-01
sources: {ec2: {from: a, licence: b, prices: false}, gce: {from: c}, runpod: {from: d}, vast: {from: e}}
families: {A100: [A100-80GB-SXM, A100-40GB-SXM]}
family_preference: {A100: {ec2: [A100-40GB-SXM]}}
accelerators:
  - {name: A100-80GB-SXM, vendor: nvidia, memory_gib: 80, aliases: [A100-80GB, A100-SXM4-80GB], runpod: [x]}
  - {name: V100-16GB, vendor: nvidia, memory_gib: 16, gce: nvidia-tesla-v100, note: old}
  - {name: L4, vendor: nvidia, memory_gib: 24, runpod: [y]}
platforms:
  runpod:
    data_centers: [EU-1]
    typical_per_gpu: {A100-80GB-SXM: {vcpu: 16, mem_gib: 117, max_count: 4}}
  ec2:
    instance_types:
      - {type: p4d, accelerator: A100-40GB-SXM, count: 8, vcpu: 96, mem_gib: 1152, market: [], regions: []}
      - {type: g6f, accelerator: L4, count: 0, fraction: 0.5, vcpu: 1, mem_gib: 2, cpu: arm64, market: [], regions: []}
  gce:
    machine_types: []
    n1_attachable:
      - {gce_accelerator: nvidia-tesla-v100, accelerator: V100-16GB, counts: {1: {max_vcpu: 12, max_mem_gib: 78}}}
    accelerator_regions: {nvidia-tesla-v100: [asia]}
"""


def built() -> dict:
    text = build.render(build.build(yaml.safe_load(SOURCE)), "2026-01-01")
    assert text.startswith("# The catalog of accelerators")
    return yaml.safe_load(text)


def test_family_plus_memory_is_no_alias_because_it_means_every_member_with_that_memory():
    assert built()["accelerators"][0]["aliases"] == ["A100-SXM4-80GB"]


def test_the_published_clients_words_are_added():
    assert built()["accelerators"][1]["aliases"] == ["V100-SXM2", "V100-PCIE", "V100-FHHL"]


def test_sources_stay_and_other_clouds_go():
    assert built()["sources"] == {"ec2": {"from": "a", "licence": "b"}, "gce": {"from": "c"}, "runpod": {"from": "d"}}


def test_every_cloud_s_shapes_have_the_same_form():
    shapes = built()["shapes"]
    assert shapes["ec2"][0]["memory_gib"] == 1152
    assert shapes["ec2"][1]["fraction"] == 0.5
    assert shapes["ec2"][1]["cpu"] == "arm64"
    assert shapes["gce"][0]["type"] == "n1+nvidia-tesla-v100"
    assert shapes["gce"][0]["regions"] == ["asia"]
    assert shapes["runpod"][0]["max_count"] == 4


def test_a_largest_count_that_nobody_wrote_down_is_marked_as_assumed():
    row = built()["shapes"]["runpod"][1]
    assert (row["max_count"], row["assumed"]) == (build.ASSUMED_MAX_COUNT, True)


def test_the_command_writes_the_catalog_and_says_how_it_is_called(tmp_path: Path, monkeypatch, capsys):
    source, target = tmp_path / "source.yaml", tmp_path / "target.yaml"
    source.write_text(SOURCE)
    monkeypatch.setattr(build, "TARGET", target)
    assert build.main([str(source)]) == 0
    assert yaml.safe_load(target.read_text()).keys() == build.build(yaml.safe_load(SOURCE)).keys()
    assert build.main([]) == 2
    assert "usage:" in capsys.readouterr().err
