# Made of _async/waits.py by `make client`; change that file, not this one.
"""Waiting for a container, by looking at its row again and again, which costs the engine nothing."""

from __future__ import annotations

import time
from collections.abc import Generator
from time import monotonic

from nebulous import waiting
from nebulous.client._sync.api import Api
from nebulous.client.replies import Container
from nebulous.client.wire import Json, Place
from nebulous.errors import NotFound, NotReady, Unavailable
from nebulous.waiting import Limit


def until_reached(
    api: Api, place: Place, container: Container, until: str, limit: Limit, *, begun: bool = True
) -> Container:
    """Wait until this life has come to what is waited for; one that has not begun may still have another before it.

    Raises:
        Ended, NotReady, NotFound: As `containers.wait` says.
    """
    for row in _looks(api, place, limit):
        if row["metadata"]["id"] != container.metadata.id:
            if not begun:
                continue
            raise over(container)
        container, begun = Container.of(row), True
        if waiting.reached(until, container.status, str(container)):
            return container
    raise NotReady(
        f"{container} is {waiting.described(container.status)}, and not {until} after {waiting.shown(limit)}",
        "it goes on: wait again, or longer",
    )


def over(container: Container | str) -> NotFound:
    """What is said of a life that another has followed."""
    return NotFound(f"this life of {container} is over: another has begun under its name")


def until_gone(api: Api, place: Place, life: str, limit: Limit) -> None:
    """Wait until nothing is left of this life.

    Raises:
        NotReady: Something is, after the limit.
    """
    try:
        for row in _looks(api, place, limit):
            if life and row["metadata"]["id"] != life:
                return
    except NotFound:
        return
    raise NotReady(f"container/{place.name} is not gone yet after {waiting.shown(limit)}", "its deletion goes on")


def until_left(api: Api, place: Place, ended: Container) -> Container:
    """Wait a moment until one that has ended runs again, so that whoever waits next does not meet the old end."""
    container = ended
    for row in _looks(api, place, waiting.LEAVES_WITHIN):
        container = Container.of(row)
        if not container.finished or container.status.attempt != ended.status.attempt:
            break
    return container


def _looks(api: Api, place: Place, limit: Limit) -> Generator[Json]:
    """Its row again and again, often at first; ends when the time is over."""
    pause, alive = waiting.FIRST_PAUSE, monotonic()
    end = alive + waiting.seconds(limit)
    while True:
        try:
            row = api.get(place)
        except Unavailable:
            if monotonic() - alive > api.patience.total_seconds():
                raise
        else:
            alive = monotonic()
            yield row
        if monotonic() >= end:
            return
        time.sleep(max(0.0, min(pause, end - monotonic())))
        pause = min(pause * waiting.GROWTH, waiting.LONGEST_PAUSE)
