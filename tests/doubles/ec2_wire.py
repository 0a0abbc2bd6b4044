"""Requests and answers of Amazon's APIs as they go over the wire: query and JSON protocols, and EC2's XML."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree as Xml
from xml.sax.saxutils import escape

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
ANY_NAMESPACE = re.compile(rb' xmlns="[^"]*"')  # moto's answers have that of an older version


@dataclass
class Request:
    """One call as it came."""

    service: str
    region: str
    operation: str
    form: dict[str, str] = field(default_factory=dict[str, str])  # query protocol
    document: dict[str, Any] = field(default_factory=dict[str, Any])  # JSON protocol
    at: float = field(default_factory=time.time)  # when it came

    @classmethod
    def read(cls, headers: dict[str, str], body: bytes) -> Request:
        scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", headers.get("HTTP_AUTHORIZATION", ""))
        region, service = scope.groups() if scope else ("", "")
        if target := headers.get("HTTP_X_AMZ_TARGET"):
            return cls(service, region, target.rpartition(".")[2], document=json.loads(body or b"{}"))
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        return cls(service, region, form.get("Action", ""), form)

    @property
    def action(self) -> str:
        return f"{self.service}:{self.operation}"

    @property
    def body(self) -> bytes:
        return urlencode(self.form).encode()

    def many(self, name: str) -> list[str]:
        """InstanceId.1, InstanceId.2, …"""
        keys = [key for key in self.form if re.fullmatch(rf"{name}\.\d+", key)]
        return [self.form[key] for key in sorted(keys, key=lambda key: int(key.rpartition(".")[2]))]

    def filters(self) -> dict[str, list[str]]:
        """Filter.1.Name with Filter.1.Value.1, …"""
        return {
            self.form[f"Filter.{number}.Name"]: self.many(rf"Filter\.{number}\.Value")
            for number in range(1, 20)
            if f"Filter.{number}.Name" in self.form
        }

    def tags(self, kind: str = "instance") -> dict[str, str]:
        """Of the TagSpecification for a kind of resource."""
        for key, value in self.form.items():
            found = re.fullmatch(r"TagSpecification\.(\d+)\.ResourceType", key)
            if found and value == kind:
                start = f"TagSpecification.{found.group(1)}.Tag."
                numbers = {rest[len(start) :].split(".")[0] for rest in self.form if rest.startswith(start)}
                return {self.form[f"{start}{n}.Key"]: self.form.get(f"{start}{n}.Value", "") for n in numbers}
        return {}

    @property
    def user_data(self) -> str:
        return base64.b64decode(self.form.get("UserData", "")).decode()


@dataclass
class Answer:
    """What goes back."""

    body: bytes
    status: int = 200
    type: str = "text/xml"


def refusal(request: Request, code: str, message: str = "", status: int = 400) -> Answer:
    """An error in the words of the service's protocol."""
    text = message or f"an injected {code}"
    if not request.form:
        return Answer(json.dumps({"__type": code, "message": text}).encode(), status, "application/x-amz-json-1.1")
    error = f"<Error><Code>{code}</Code><Message>{escape(text)}</Message></Error>"
    if request.service == "ec2":
        return Answer(f"<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>".encode(), status)
    return Answer(f"<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>".encode(), status)


def reply(request: Request, content: str) -> Answer:
    """EC2's XML around a content."""
    name = f"{request.operation}Response"
    return Answer(f'<{name} xmlns="{NAMESPACE}"><requestId>r</requestId>{content}</{name}>'.encode())


def document(content: dict[str, Any]) -> Answer:
    return Answer(json.dumps(content).encode(), type="application/x-amz-json-1.1")


def regions(request: Request, known: dict[str, bool]) -> Answer:
    items = "".join(
        f"<item><regionName>{name}</regionName><regionEndpoint>ec2.{name}.amazonaws.com</regionEndpoint>"
        f"<optInStatus>{'opt-in-not-required' if enabled else 'not-opted-in'}</optInStatus></item>"
        for name, enabled in known.items()
    )
    return reply(request, f"<regionInfo>{items}</regionInfo>")


def spot_prices(request: Request, rows: Iterable[tuple[str, str, float, datetime]]) -> Answer:
    """Rows of type, zone, USD an hour and since when."""
    items = "".join(
        f"<item><instanceType>{kind}</instanceType><productDescription>Linux/UNIX</productDescription>"
        f"<spotPrice>{usd:.6f}</spotPrice><timestamp>{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.000Z}</timestamp>"
        f"<availabilityZone>{zone}</availabilityZone></item>"
        for kind, zone, usd, at in rows
    )
    return reply(request, f"<spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken/>")


def images(request: Request, rows: Iterable[tuple[str, str, str]]) -> Answer:
    """Rows of id, name and creation date."""
    items = "".join(
        f"<item><imageId>{ami}</imageId><name>{escape(name)}</name><creationDate>{made}</creationDate>"
        f"<imageState>available</imageState></item>"
        for ami, name, made in rows
    )
    return reply(request, f"<imagesSet>{items}</imagesSet>")


def console(request: Request, text: str) -> Answer:
    output = base64.b64encode(text.encode()).decode()
    machine = request.form["InstanceId"]
    return reply(request, f"<instanceId>{machine}</instanceId><output>{output}</output>")


def products(kind: str, prices: dict[str, float]) -> Answer:
    """A type's price on demand in each region, with a term and a product that must not be taken for it."""
    rows = [
        {
            "product": {"attributes": {"instanceType": kind, "regionCode": region}},
            "terms": {
                "OnDemand": {"T": {"priceDimensions": {"D": {"unit": "Hrs", "pricePerUnit": {"USD": f"{usd:.10f}"}}}}},
                "Reserved": {"R": {"priceDimensions": {"D": {"unit": "Hrs", "pricePerUnit": {"USD": "0.0001"}}}}},
            },
        }
        for region, usd in prices.items()
    ]
    return document({"FormatVersion": "aws_v1", "PriceList": [json.dumps(row) for row in rows]})


def tree(body: bytes) -> Xml.Element:
    """Without its namespace, which clients do not look at."""
    return Xml.fromstring(ANY_NAMESPACE.sub(b"", body))


def machines(root: Xml.Element) -> Iterable[tuple[Xml.Element, Xml.Element, str]]:
    """Parent, element and id of every machine of a description."""
    for holder in list(root.iter("instancesSet")):
        for item in list(holder):
            yield holder, item, str(item.findtext("instanceId"))


def put(item: Xml.Element, path: str, value: str) -> None:
    """Set the text at `instanceState/name`, making what is missing."""
    for name in path.split("/"):
        found = item.find(name)
        item = Xml.SubElement(item, name) if found is None else found
    item.text = value


def drop_empty(root: Xml.Element) -> None:
    """Reservations whose machines are all hidden are no reservations."""
    for holder in root.iter("reservationSet"):
        for reservation in list(holder):
            found = reservation.find("instancesSet")
            if found is None or not len(found):
                holder.remove(reservation)


def written(root: Xml.Element) -> bytes:
    return Xml.tostring(root)
