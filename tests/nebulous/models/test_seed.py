"""Every YAML snippet of the product's card is accepted as printed, or refused as not in this release yet."""

from pathlib import Path

import pytest

from nebulous import catalog
from nebulous.errors import Rejected
from nebulous.models.base import check
from nebulous.models.documents import read

EXAMPLES = Path(__file__).parents[3] / "examples"

BASIC = """\
kind: Container
metadata:
  name: pytorch-test
  namespace: foo
image: pytorch/pytorch:latest
command: nvidia-smi
platform: runpod
env_vars:
  - key: HELLO
    value: world
volumes:
  - source: s3://nebulous-rs/test
    dest: /nebu/test
    driver: RCLONE_SYNC
    continuous: true
accelerators:
  - "4:A100"
"""

QUEUE = """\
kind: Container
image: pytorch/pytorch:latest
queue: actor-critic-training
...
"""

VOLUMES = """\
volumes:
  - source: s3://nebulous-rs/test
    dest: /nebu/test
    driver: RCLONE_SYNC
    continuous: true
"""

COST = """\
meters:
  - cost: 0.1
    unit: second
    currency: USD
    metric: runtime\x20
"""

COST_PLUS = """\
meters:
  - costp: 10
    unit: second
    currency: USD
    metric: runtime\x20
"""

PROCESSOR = """\
kind: Processor
metadata:
  name: vllm-llama3
  namespace: inference
stream: inference:vllm:llama3
container:
  image: corge/vllm-processor:latest
  command: "redis-cli XREAD COUNT 10 STREAMS inference:vllm:llama3"
  platform: gce
  accelerators:
    - "1:A40"
min_workers: 1
max_workers: 10
scale:
  up:
    pressure: 100
    rate: 10s
  down:
    pressure: 10
    rate: 5m
"""

CLUSTER = """\
kind: Cluster
metadata:
  name: pytorch-test
  namespace: foo
container:
  image: pytorch/pytorch:latest
  command: "echo $NODES && torchrun ..."
  accelerators:
    - "8:B200"
num_nodes: 4
"""

CONTAINER = "kind: Container\nimage: pytorch/pytorch:latest\n"


@pytest.mark.parametrize("text", [BASIC, QUEUE, CONTAINER + VOLUMES, CONTAINER + COST, CONTAINER + COST_PLUS])
def test_a_snippet_about_containers_is_accepted_as_printed(text: str):
    (document,) = read(text, "card.yaml")
    spec = check(document.kind.model, document.data)
    sent = {name: value for name, value in spec.model_dump(exclude_none=True).items() if name in document.data}
    assert sent.keys() == document.data.keys()


@pytest.mark.parametrize("text", [PROCESSOR, CLUSTER])
def test_a_snippet_about_a_later_kind_says_so(text: str):
    with pytest.raises(Rejected, match=r"card.yaml:1:1: kind \w+ is not in this release yet"):
        read(text, "card.yaml")


def test_the_basic_example_is_the_card_s_byte_for_byte():
    assert (EXAMPLES / "basic.yaml").read_text() == BASIC


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_every_example_is_valid_and_says_how_to_run_it(file: Path):
    text = file.read_text()
    for document in read(text, file.name):
        check(document.kind.model, document.data)
    assert f"nebu create container -f examples/{file.name}" in text or file.name == "basic.yaml"


@pytest.mark.parametrize("name", ["1:L40s", "4:A100", "8:B200", "8:H100"])
def test_the_accelerators_of_the_card_are_known(name: str):
    assert catalog.resolve(name)[1]
