"""Security groups: who reaches a machine's SSH port, and which ports the whole world reaches.

One group of the install in each VPC opens SSH to the ranges that workers come from, each rule with its worker in its
description; one for each set of public ports opens those. Found by name, tagged, made when missing, taken away when
no machine has used them for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from activities.platforms import ec2_errors
from activities.platforms.ec2_api import Api, Fields, many
from activities.platforms.machine_cloud import SSH_PORT
from activities.platforms.origin import Origin
from nebulous.errors import NebulousError, NotReady
from nebulous.ids import TAG_INSTALL, host_id
from nebulous.models.container_fields import Port

log = logging.getLogger(__name__)

KEPT_S = 3_600.0  # a group that was just handed out may be in a request under way
KNOWN_S = 300.0
WORLD, WORLD_V6 = "0.0.0.0/0", "::/0"
DUPLICATE, NO_SUCH_RULE, NO_GROUP = "InvalidPermission.Duplicate", "InvalidPermission.NotFound", "InvalidGroup.NotFound"
TAKEN, IN_USE = "InvalidGroup.Duplicate", frozenset(("DependencyViolation", "InvalidGroup.InUse"))
LONGEST_NAME = 120
NOT_YET_SEEN_S = (0.3, 0.6, 1.2)

T = TypeVar("T")


@dataclass(frozen=True)
class Span:
    """Ports in a row."""

    transport: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.transport}{self.first}" + (f"to{self.last}" if self.last > self.first else "")


class Network:
    """The security groups of one install in one account."""

    def __init__(self, api: Api, install: str, origin: Origin, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._install = install
        self._origin = origin
        self._clock = clock
        self._worker = f"nebulous worker {host_id()}"
        self._ids: dict[tuple[str, str, str], tuple[float, str]] = {}  # region, VPC, name
        self._handed: dict[str, float] = {}
        self._opened: set[tuple[str, str]] = set()  # group, range: what this process has seen to
        self._making = asyncio.Lock()  # many launches at once need the same group

    async def groups(self, region: str, vpc: str, ports: list[Port]) -> list[str]:
        """The ids of the groups for a machine, ready to be used."""
        cidr = await self._origin.range()
        rules = _rows(ports)
        async with self._making:
            ssh = await self._group(region, vpc, self._ssh_name, "SSH from the workers of Nebulous", [])
            await self._admit(region, ssh, cidr)
            if not rules:
                return [ssh]
            why = "public ports of containers of Nebulous"
            return [ssh, await self._group(region, vpc, self._ports_name(rules), why, rules)]

    def forget(self, region: str) -> None:
        """Look up again: a group that was there is gone."""
        for key in [key for key in self._ids if key[0] == region]:
            self._opened = {(group, cidr) for group, cidr in self._opened if group != self._ids[key][1]}
            del self._ids[key]

    async def admit(self, region: str) -> None:
        """Let this worker in from where it is now, and from nowhere else that it was."""
        cidr = await self._origin.range(anew=True)
        for group in await self._ours(region, self._ssh_name):
            group_id = str(group["GroupId"])
            self._opened.discard((group_id, cidr))
            await self._admit(region, group_id, cidr)
            await self._leave(region, group, cidr)

    async def tidy(self, region: str) -> None:
        """Take away the groups that no machine uses; whoever needs one again makes it again."""
        for group in await self._ours(region):
            group_id = str(group["GroupId"])
            if self._handed.get(group_id, float("-inf")) + KEPT_S > self._clock():
                continue
            try:
                await self._api.call("DeleteSecurityGroup", region, {"GroupId": group_id})
            except NebulousError as error:
                if ec2_errors.code(error) not in IN_USE | {NO_GROUP}:
                    log.warning("cannot take away security group %s in %s: %s", group_id, region, error)
                continue
            self.forget(region)

    @property
    def _ssh_name(self) -> str:
        return f"nebulous-{self._install}-ssh"

    def _ports_name(self, rules: list[Span]) -> str:
        name = f"nebulous-{self._install}-" + "-".join(map(str, rules))
        if len(name) <= LONGEST_NAME:
            return name
        return f"nebulous-{self._install}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"

    async def _ours(self, region: str, name: str | None = None, vpc: str | None = None) -> list[Fields]:
        filters = [{"Name": f"tag:{TAG_INSTALL}", "Values": [self._install]}]
        filters += [{"Name": "group-name", "Values": [name]}] if name else []
        filters += [{"Name": "vpc-id", "Values": [vpc]}] if vpc else []
        return await self._api.pages("DescribeSecurityGroups", region, "SecurityGroups", {"Filters": filters})

    async def _group(self, region: str, vpc: str, name: str, why: str, rules: list[Span]) -> str:
        """The group of this name, with these ports open to the world."""
        kept = self._ids.get((region, vpc, name))
        if kept is None or self._clock() - kept[0] > KNOWN_S:
            found = await self._ours(region, name, vpc)
            group = str(found[0]["GroupId"]) if found else await self._make(region, vpc, name, why)
            if rules:  # also for one that was found: whoever made it may have got no further
                await self._open(region, group, [_rule(each, "public", WORLD, WORLD_V6) for each in rules])
            kept = self._ids[region, vpc, name] = (self._clock(), group)
        self._handed[kept[1]] = self._clock()
        return kept[1]

    async def _make(self, region: str, vpc: str, name: str, why: str) -> str:
        tags = [{"Key": TAG_INSTALL, "Value": self._install}, {"Key": "Name", "Value": name}]
        try:
            made = await self._api.call(
                "CreateSecurityGroup",
                region,
                {
                    "GroupName": name,
                    "Description": why,
                    "VpcId": vpc,
                    "TagSpecifications": [{"ResourceType": "security-group", "Tags": tags}],
                },
            )
        except NebulousError as error:
            if ec2_errors.code(error) != TAKEN:
                raise
            return await _soon(lambda: self._made_by_another(region, vpc, name))
        return str(made["GroupId"])

    async def _made_by_another(self, region: str, vpc: str, name: str) -> str:
        found = await self._ours(region, name, vpc)
        if not found:
            hint = f"a group of this name without the tag {TAG_INSTALL} is in the way: delete it"
            raise NotReady(f"security group {name!r} in {region} exists and is not to be seen", hint)
        return str(found[0]["GroupId"])

    async def _admit(self, region: str, group: str, cidr: str) -> None:
        if (group, cidr) not in self._opened:
            ranges = (cidr, None) if ":" not in cidr else (None, cidr)
            await self._open(region, group, [_rule(Span("tcp", SSH_PORT, SSH_PORT), self._worker, *ranges)])
            self._opened.add((group, cidr))

    async def _open(self, region: str, group: str, rules: list[Fields]) -> None:
        for rule in rules:  # one by one: a single duplicate would refuse all of them
            try:
                await _soon(self._change("AuthorizeSecurityGroupIngress", region, group, rule))
            except NebulousError as error:
                if ec2_errors.code(error) != DUPLICATE:
                    raise

    def _change(self, operation: str, region: str, group: str, rule: Fields) -> Callable[[], Awaitable[Fields]]:
        return lambda: self._api.call(operation, region, {"GroupId": group, "IpPermissions": [rule]})

    async def _leave(self, region: str, group: Fields, now: str) -> None:
        """Close what this worker had opened from elsewhere; rules of other workers stay."""
        for permission in many(group, "IpPermissions"):
            for ranges, word in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6")):
                old = [
                    each
                    for each in many(permission, ranges)
                    if each.get("Description") == self._worker and each[word] != now
                ]
                if not old:
                    continue
                rule = {key: permission[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in permission}
                group_id = str(group["GroupId"])
                try:
                    await self._change("RevokeSecurityGroupIngress", region, group_id, {**rule, ranges: old})()
                except NebulousError as error:
                    if ec2_errors.code(error) != NO_SUCH_RULE:
                        raise
                self._opened -= {(group_id, each[word]) for each in old}


async def _soon(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again for a moment: what was just made is not seen everywhere at once."""
    for pause_s in NOT_YET_SEEN_S:
        try:
            return await ask()
        except NebulousError as error:
            if not isinstance(error, NotReady) and ec2_errors.code(error) != NO_GROUP:
                raise
            await asyncio.sleep(pause_s)
    return await ask()


def _rows(ports: list[Port]) -> list[Span]:
    """The ports, those in a row together: a group has room for sixty rules."""
    found: list[Span] = []
    for transport, number in sorted({(port.transport, port.port) for port in ports}):
        last = found[-1] if found else None
        if last and (last.transport, last.last + 1) == (transport, number):
            found[-1] = replace(last, last=number)
        else:
            found.append(Span(transport, number, number))
    return found


def _rule(ports: Span, why: str, v4: str | None, v6: str | None) -> Fields:
    rule: Fields = {"IpProtocol": ports.transport, "FromPort": ports.first, "ToPort": ports.last}
    if v4:
        rule["IpRanges"] = [{"CidrIp": v4, "Description": why}]
    if v6:
        rule["Ipv6Ranges"] = [{"CidrIpv6": v6, "Description": why}]
    return rule
