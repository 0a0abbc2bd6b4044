"""The accounts of clouds that this worker process serves."""

from __future__ import annotations

from activities.platforms.base import Platform
from activities.platforms.machine_cloud import MachineCloud
from activities.platforms.origin import Origin
from nebulous import accounts
from nebulous.accounts import Account, Ec2Account, GceAccount, MachineAccount, RunpodAccount
from nebulous.seal import secret_key
from nebulous.settings import CLOUDS, Settings


def platforms_of_clouds(settings: Settings, install: str, before: set[str]) -> list[Platform]:
    """One platform for each account; nothing is connected yet, and no SDK imported.

    Args:
        settings: Of the server.
        install: Its id.
        before: Accounts that were served once. The `default` one of a cloud is served on while there are credentials,
            though the settings do not want it any more: what was rented in it has to be given back.
    """
    wanted = settings.accounts
    for name in before - wanted.keys():
        cloud, _, short = name.partition(":")
        kept = accounts.found(cloud) if short == "default" else None
        if kept:
            wanted[name] = kept
    return [_platform(settings, install, *each) for each in wanted.items()]


def still_wanted(settings: Settings, platform: Platform) -> bool:
    """False for the account of a cloud that is served only because something may be rented in it."""
    return platform.simulated or platform.type not in CLOUDS or platform.account in settings.accounts


def _platform(settings: Settings, install: str, name: str, account: Account) -> Platform:
    cloud, _, short = name.partition(":")
    match account:
        case Ec2Account():
            from activities.platforms.ec2 import Ec2Cloud

            return _machines(settings, install, Ec2Cloud(short, install, account, _origin(settings, account)))
        case GceAccount():
            from activities.platforms.gce import GceCloud

            return _machines(settings, install, GceCloud(short, install, account, _origin(settings, account)))
        case RunpodAccount():
            from activities.platforms.runpod import RunpodPlatform

            return RunpodPlatform(short, install, account, secret_key(settings), settings.data)
        case _:
            raise AssertionError(f"{cloud} is no cloud")


def _machines(settings: Settings, install: str, cloud: MachineCloud) -> Platform:
    """A platform on rented machines."""
    from activities.platforms.machines import MachinePlatform

    return MachinePlatform(cloud, install, secret_key(settings), settings.data, settings.docker_subnets)


def _origin(settings: Settings, account: MachineAccount) -> Origin:
    return Origin(account.ssh_from, settings.address_service)
