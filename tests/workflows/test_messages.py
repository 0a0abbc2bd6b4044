"""Messages of statuses: without the reason that stands beside them, cut at words, with their end kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workflows.container_state import KEPT_END, LONGEST_MESSAGE, shortened

LONG = (
    "Unavailable: docker: the Engine at unix:///var/run/docker.sock does not answer, and neither does any other that "
    "was looked for on this machine; start one, or set NEBU_DOCKER_HOST to where it is"
)


def test_a_long_message_keeps_its_beginning_and_what_to_do_and_no_half_word() -> None:
    told = shortened(LONG, "Unavailable")
    assert len(told) <= LONGEST_MESSAGE
    assert told.startswith("docker: the Engine at unix:///var/run/docker.sock does not answer")
    assert told.endswith("or set NEBU_DOCKER_HOST to where it is")
    assert set(told.split()) <= {*LONG.split(), "…"}


def test_a_short_one_stays_as_it_is_but_for_the_reason() -> None:
    assert shortened("QuotaExceeded: 4 vCPU", "QuotaExceeded") == "4 vCPU"
    assert shortened("QuotaExceeded: 4 vCPU", "Unavailable") == "QuotaExceeded: 4 vCPU"
    assert shortened("fetching image 'x'", "Pulling") == "fetching image 'x'"
    assert shortened(": odd", "") == ": odd"


@given(st.text(max_size=600))
def test_nothing_gets_longer_than_the_memo_takes(text: str) -> None:
    told = shortened(text)
    assert len(told) <= LONGEST_MESSAGE
    assert told == text or (len(text) > LONGEST_MESSAGE and " … " in told and len(told) > KEPT_END // 2)
