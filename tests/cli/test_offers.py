"""`nebu get offers` and `--dry-run`: what could be rented, in the words and columns that people read."""

from __future__ import annotations

import json

import pytest


def offer(**changed):
    return {
        "platform": "runpod",
        "account": "runpod:simulated-h",
        "region": "US-KS-2",
        "zone": "",
        "instance_type": "a100",
        "accelerator": "1:A100-80GB-PCIE",
        "accelerator_count": 1,
        "rank": 0,
        "usd_per_hour": 1.6,
        "price_source": "simulated",
        "price_at": "2026-11-24T03:00:00Z",
        "price_age_s": 3,
        "spot": False,
        "simulated": True,
        "place": "runpod US-KS-2 a100",
        **changed,
    }


DOCKER_OUT = {"platform": "docker", "account": "docker:h", "reason": "this Engine has no GPU", "hint": "install it"}
FORESEEN = {"offers": [offer()], "why": "named by the spec", "out": [DOCKER_OUT], "problem": None, "rejected": False}
NOTHING = {"offers": [], "why": "", "out": [DOCKER_OUT], "problem": "Unavailable: nobody", "rejected": False}


def test_offers_are_a_table_with_what_is_out_below(nebu, server):
    server.on("GET", "/v1/offers", FORESEEN)
    words = ("--accelerators", "1:A100", "--accelerators", "1:L4", "--platform", "runpod")
    ended = nebu("get", "offers", *words, "--spot", "--regions", "US-KS-2", "--max-price", "2", "--min-cpu", "4")
    assert ended.code == 0
    assert ended.out == (
        "PLATFORM            REGION   TYPE  ACCELERATOR       $/H   PRICE FROM\n"
        "runpod (simulated)  US-KS-2  a100  1:A100-80GB-PCIE  1.60  simulated, 3s ago\n"
        "\n"
        "chosen: runpod US-KS-2 a100 (named by the spec)\n"
        "\n"
        "OUT     WHY\n"
        "docker  this Engine has no GPU\n"
        "\n"
        "WHAT TO DO\n"
        "docker  install it\n"
    )
    assert server.requests("GET", "/v1/offers")[0].query == {
        "accelerators": ["1:A100", "1:L4"],
        "platform": ["runpod"],
        "spot": ["true"],
        "regions": ["US-KS-2"],
        "max_price": ["2.0"],
        "min_cpu": ["4.0"],
    }


def test_wide_says_more_and_unknown_prices_are_no_zero(nebu, server):
    unknown = offer(usd_per_hour=None, price_source="", price_at="", price_age_s=None, spot=True, zone="us-1a")
    server.on("GET", "/v1/offers", {**FORESEEN, "offers": [unknown]})
    header, row = nebu("get", "offers", "-o", "wide").out.splitlines()[:2]
    assert header.endswith("MARKET  $/H  PRICE FROM  ACCOUNT             PRICE AT")
    assert row.split()[2:] == ["us-1a", "a100", "1:A100-80GB-PCIE", "spot", "-", "-", "runpod:simulated-h", "-"]


def test_the_market_is_told_where_any_offer_is_spot(nebu, server):
    server.on("GET", "/v1/offers", {**FORESEEN, "offers": [offer(spot=True), offer()]})
    header, spot, demand = nebu("get", "offers").out.splitlines()[:3]
    assert "MARKET" in header
    assert "  spot  " in spot
    assert "  on demand  " in demand


@pytest.mark.parametrize("output", ["json", "yaml", "name"])
def test_programs_get_the_reply_itself(nebu, server, output):
    server.on("GET", "/v1/offers", FORESEEN)
    ended = nebu("get", "offer", "-o", output)
    assert ended.code == 0
    if output == "json":
        assert json.loads(ended.out) == FORESEEN
    else:
        assert "runpod US-KS-2 a100" in ended.out


def test_without_offers_it_says_what_would_become_of_it(nebu, server):
    server.on("GET", "/v1/offers", NOTHING, {**NOTHING, "problem": "Rejected: never", "rejected": True})
    assert nebu("get", "offers").out.startswith("no offer now; it would be pending: Unavailable: nobody\n")
    assert nebu("get", "offers").out.startswith("no offer now; it would be invalid: Rejected: never\n")


def test_the_flags_of_offers_mean_nothing_to_containers(nebu, server):
    ended = nebu("get", "containers", "--spot")
    assert ended.code == 2
    assert "go with `nebu get offers`" in ended.err


def test_a_dry_run_prints_offers_and_creates_nothing(nebu, server, double):
    resource = double.container("foo")
    server.on("POST", "/v1/containers", {"outcome": "new", "resource": resource, **FORESEEN})
    ended = nebu("create", "container", "--name", "foo", "--image", "x", "--dry-run")
    assert ended.code == 0
    assert ended.out.startswith("container/foo would be created (dry run)\nPLATFORM ")
    assert "chosen: runpod US-KS-2 a100" in ended.out
    (asked,) = server.requests("POST")
    assert asked.query == {"dry_run": ["true"]}


def test_a_dry_run_of_files_goes_through_all_and_fails_as_creating_would(nebu, server, double):
    def answer(asked):
        name = asked.body["metadata"]["name"]
        if name == "b":
            return double.refusal(409, "Conflict", "it exists with another spec", "delete it first")
        return double.Reply(200, {"outcome": "same", "resource": double.container(name), **NOTHING})

    server.on("POST", "/v1/containers", answer)
    text = "---\n".join(f"kind: Container\nmetadata: {{name: {name}}}\nimage: x\n" for name in "abc")
    ended = nebu("create", "-f", "-", "--dry-run", stdin=text)
    assert ended.code == 1
    assert ended.out.count("is there just so: nothing would change (dry run)") == 2
    assert ended.err == "error: container/b: it exists with another spec\nhint:  delete it first\n"


def test_of_many_offers_a_dry_run_shows_ten(nebu, server, double):
    many = {**FORESEEN, "offers": [offer(region=f"r{number}") for number in range(12)]}
    server.on("POST", "/v1/containers", {"outcome": "next", "resource": double.container("foo"), **many})
    ended = nebu("create", "container", "--image", "x", "--dry-run")
    assert "container/a made-up name would be created once" in ended.out
    assert "r9" in ended.out
    assert "r10" not in ended.out
    assert ended.err == "and 2 more: nebu get offers\n"


def test_a_dry_run_of_a_secret_has_no_offers(nebu, server, double):
    resource = {"kind": "Secret", "metadata": {"name": "t"}}
    server.on("POST", "/v1/secrets", {"outcome": "new", "resource": resource})
    assert nebu("create", "secret", "t", "--value", "x", "--dry-run").out == "secret/t would be created (dry run)\n"
