"""Whom a notification may reach, and what its answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from activities import webhook
from activities.webhook import Webhook
from nebulous.addresses import public
from nebulous.errors import Rejected, Unavailable
from tests.doubles.receiver import Receiver

BODY = {"name": "web", "status": "failed"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as listening:
        yield listening


async def test_it_posts_the_body_with_a_key_that_tells_doubles_apart(receiver: Receiver):
    assert await Webhook(private=True).post(receiver.url, "life-1", BODY) == 204
    ((headers, body),) = receiver.got
    assert body == BODY
    assert headers["idempotency-key"] == "life-1"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"


async def test_a_name_is_looked_up_and_kept_as_the_host(receiver: Receiver):
    await Webhook(private=True).post(f"http://localhost:{receiver.port}/x", "k", BODY)
    assert receiver.got[0][0]["host"] == f"localhost:{receiver.port}"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.1.2.3", "192.168.0.1", "169.254.169.254", "[::1]", "[fe80::1]", "[fd00::1]",
     "100.64.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "224.0.0.1"],
)  # fmt: skip
async def test_addresses_that_are_not_public_are_refused_before_anything_is_sent(receiver: Receiver, host: str):
    with pytest.raises(Rejected, match="not public") as refused:
        await Webhook(private=False).post(f"http://{host}:{receiver.port}/x", "k", BODY)
    assert "NEBU_NOTIFY_PRIVATE" in (refused.value.hint or "")
    assert receiver.got == []


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_public(address: str):
    assert public(address)


async def test_an_address_of_ipv6_is_written_as_urls_have_it():
    assert await Webhook(private=True)._address("::1", 80) == "[::1]"
    assert await Webhook(private=False)._address("2606:4700::1111", 80) == "[2606:4700::1111]"


async def test_a_redirect_is_not_followed(receiver: Receiver):
    receiver.answers, receiver.location = [302], receiver.url
    with pytest.raises(Rejected, match="302, a redirect, which is not followed"):
        await Webhook(private=True).post(receiver.url, "k", BODY)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(("answer", "kind"), [(500, Unavailable), (429, Unavailable), (404, Rejected), (403, Rejected)])
async def test_a_refusal_is_final_and_trouble_is_not(receiver: Receiver, answer: int, kind: type[Exception]):
    receiver.answers = [answer]
    with pytest.raises(kind, match=f"127.0.0.1 answers {answer}"):
        await Webhook(private=True).post(receiver.url, "k", BODY)


async def test_a_receiver_that_does_not_answer_is_not_waited_for(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    receiver.answers = [None]
    monkeypatch.setattr(webhook, "CALL_S", 0.3)
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match=r"did not answer within 0\.3 s"):
            await Webhook(private=True).post(receiver.url, "k", BODY)


async def test_nobody_there_is_trouble_that_may_pass():
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        await Webhook(private=True).post("http://127.0.0.1:9/x", "k", BODY)
