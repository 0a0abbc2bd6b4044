"""What serve prints, from what the API says."""

from __future__ import annotations

from typing import Any

from worker.screens import farewell, welcome

PLACES = {"API": "http://127.0.0.1:3000"}


def report(platform: str, **more: Any) -> dict[str, Any]:
    return {"platform": platform, "disabled": None, "configured": True, "simulated": False, **more}


def rental(name: str, platform: str = "ec2", **more: Any) -> dict[str, Any]:
    place = {"owner": "local", "namespace": "default", "platform": platform, "usd_per_hour": 1.2, "simulated": False}
    return {"name": name, **place, **more}


def test_platforms_are_listed_by_whether_they_are_usable_and_real() -> None:
    reports = [
        report("docker", disabled="no socket"),
        report("local"),
        report("sim", simulated=True),
        report("gce", disabled="no longer simulated", configured=False),
    ]
    screen = welcome(PLACES, {"platforms": reports}, ["mind the gap"])
    assert "local; simulated: sim" in screen
    assert "Not usable   docker: no socket" in screen
    assert "gce" not in screen
    assert "Note         mind the gap" in screen
    assert "--cmd 'echo hello' --wait" in screen


def test_the_next_command_works_where_nothing_real_is_usable() -> None:
    screen = welcome(PLACES, {"platforms": [report("sim", simulated=True)]})
    assert "none; simulated: sim" in screen
    assert "--platform sim --wait" in screen


def test_what_goes_on_is_named_with_its_place_and_its_price() -> None:
    running = [rental("a"), rental("a", "gce", usd_per_hour=0.8), rental("b", "docker", usd_per_hour=0.0)]
    assert farewell({"running": running}) == (
        "Stopped. 2 containers go on: a on ec2 and gce, b on docker ($2.00/h); "
        "the next `nebu serve` picks that up again."
    )
    assert "2 containers go on" in welcome(PLACES, {"platforms": [], "running": running})


def test_simulated_money_is_not_counted_and_unknown_prices_are_said() -> None:
    simulated = rental("a", simulated=True)
    assert "1 container goes on: a on ec2 (simulated);" in farewell({"running": [simulated]})
    unknown = rental("b", usd_per_hour=None)
    assert "(1 at a price nobody knows);" in farewell({"running": [simulated, unknown]})


def test_names_are_written_as_nebu_takes_them_and_a_long_list_is_cut() -> None:
    there = rental("a", owner="agentsea", namespace="foo")
    assert "agentsea/a -n foo on ec2" in farewell({"running": [there]})
    many = farewell({"running": [rental(f"c{number}") for number in range(7)]})
    assert "7 containers go on: c0 on ec2" in many
    assert "c4 on ec2 and 2 more" in many


def test_nothing_is_claimed_that_was_not_asked() -> None:
    assert farewell({"running": []}) == "Stopped. Nothing of yours is running."
    assert "could not be asked" in farewell(None)
