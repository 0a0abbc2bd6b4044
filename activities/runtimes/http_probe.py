"""One HTTP health check, asked as a kubelet asks: no redirects, no proxy, no certificate, 2xx and 3xx are good."""

from __future__ import annotations

import errno

import aiohttp

from activities.platforms.base import Verdict
from nebulous.models.container_fields import HealthCheck

AGENT = {"User-Agent": "nebulous-probe", "Connection": "close"}
GOOD = range(200, 400)
LONGEST_WORDS = 120


async def ask(host: str, check: HealthCheck) -> Verdict:
    """Ask a host for the check's path and judge the answer."""
    url = url_of(host, check)
    timeout = aiohttp.ClientTimeout(total=check.timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=AGENT) as session,
            session.get(url, allow_redirects=False, ssl=False) as reply,
        ):
            return judged(reply.status, check)
    except TimeoutError:
        return Verdict(False, f"no answer from {check} within {check.timeout}")
    except aiohttp.ClientConnectorError as error:
        if error.os_error.errno == errno.ECONNREFUSED:
            return Verdict(False, f"nothing listens on port {check.port}: connection refused")
        return Verdict(False, f"{check}: {error.os_error}"[:LONGEST_WORDS])
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Verdict(False, f"{check}: {error or type(error).__name__}"[:LONGEST_WORDS])


def url_of(host: str, check: HealthCheck) -> str:
    """What is asked for."""
    return f"{check.protocol}://{f'[{host}]' if ':' in host else host}:{check.port}{check.path}"


def judged(status: int, check: HealthCheck) -> Verdict:
    """Tell good from bad by the code of the answer."""
    return Verdict(True) if status in GOOD else Verdict(False, f"{check} answers {status}")
