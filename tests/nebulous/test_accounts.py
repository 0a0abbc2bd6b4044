"""Accounts of clouds: as they are set, and as the environment has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nebulous.accounts import FILES, VARIABLES, Ec2Account, GceAccount, Machine, RunpodAccount
from nebulous.settings import Settings


@pytest.fixture(autouse=True)
def without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = [variable for variables in VARIABLES.values() for variable in variables]
    for variable in (*named, *(variable for variable, _ in FILES.values()), "NEBU_CLOUDS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_accounts_are_read_by_what_their_names_say() -> None:
    platforms: dict[str, Any] = {
        "docker:box": {"ssh": "me@box"},
        "ec2:prod": {"profile": "prod", "ssh_from": "203.0.113.0/24"},
        "ec2:research": None,
        "gce:lab": {"network": "lab"},
        "runpod:me": {"cloud": "ANY"},
    }
    settings = Settings(platforms=platforms)
    kinds = [type(each) for each in settings.platforms.values()]
    assert kinds == [Machine, Ec2Account, Ec2Account, GceAccount, RunpodAccount]
    assert list(settings.machines) == ["docker:box"]
    assert list(settings.accounts) == ["ec2:prod", "ec2:research", "gce:lab", "runpod:me"]
    again = Settings(platforms=settings.model_dump(mode="json")["platforms"])
    assert again.platforms == settings.platforms


@pytest.mark.parametrize(
    ("cloud", "variable"), [(cloud, variable) for cloud, variables in VARIABLES.items() for variable in variables]
)
def test_credentials_in_the_environment_are_an_account(
    cloud: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings().accounts == {}
    monkeypatch.setenv(variable, "x")
    assert list(Settings().accounts) == [f"{cloud}:default"]
    assert Settings(clouds="").accounts == {}
    assert Settings(simulate=cloud).accounts == {}  # what is simulated is meant to cost nothing


@pytest.mark.parametrize("cloud", FILES)
def test_credentials_in_the_home_folder_are_an_account(cloud: str, tmp_path: Path) -> None:
    path = tmp_path / FILES[cloud][1].removeprefix("~/")
    path.parent.mkdir(parents=True)
    path.write_text("x")
    assert list(Settings().accounts) == [f"{cloud}:default"]


def test_an_account_that_is_set_stands_for_its_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    platforms: dict[str, Any] = {"ec2:prod": {}}
    assert list(Settings(platforms=platforms).accounts) == ["ec2:prod"]


@pytest.mark.parametrize(
    ("platforms", "words"),
    [
        ({"azure:x": {}}, "'azure:x' is no account: write docker:NAME, ec2:NAME, gce:NAME, runpod:NAME"),
        ({"ec2": {}}, "'ec2' is no account"),
        ({"ec2:Prod": {}}, "lower case"),
        ({"ec2:prod": {"profil": "x"}}, "ec2:prod: there is no field 'profil'; did you mean 'profile'?"),
        ({"ec2:prod": {"ssh_from": "0.0.0.0/0"}}, "ec2:prod: ssh_from: the whole world must not reach"),
        ({"gce:x": {"ssh_from": "me"}}, "gce:x: ssh_from: 'me' does not appear to be an IPv4 or IPv6 network"),
        ({"runpod:x": {"cloud": "NONE"}}, "runpod:x: cloud: "),
    ],
)
def test_a_wrong_account_is_said(platforms: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="platforms") as wrong:
        Settings(platforms=platforms)
    assert words in str(wrong.value)


def test_a_cloud_that_there_is_not_is_said() -> None:
    with pytest.raises(ValueError, match="NEBU_CLOUDS: 'azure' is no cloud; choose of runpod, ec2, gce"):
        _ = Settings(clouds="azure").accounts
