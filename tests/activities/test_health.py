"""The counting of answers: what is news, and when."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from activities.health import Tally
from activities.platforms.base import Verdict
from nebulous.models.container_fields import HealthCheck

GOOD, BAD = Verdict(True), Verdict(False, "no")
LATER = 1000.0


def tally(told: str | None = None, **check: object) -> Tally:
    return Tally(HealthCheck.model_validate({"command": "x", "retries": 3, "start_period": "10s", **check}), told)


def news(counter: Tally, *answers: Verdict, age_s: float = LATER) -> list[str]:
    said: list[str] = []
    for answer in answers:
        if word := counter.add(answer, age_s):
            counter.told = word
            said.append(word)
    return said


def test_the_first_good_answer_is_news_and_the_next_ones_are_not():
    assert news(tally(), GOOD, GOOD, GOOD) == ["healthy"]


def test_only_failures_in_a_row_count():
    assert news(tally(), GOOD, BAD, BAD, GOOD, BAD, BAD, GOOD) == ["healthy"]
    assert news(tally(), GOOD, BAD, BAD, BAD, BAD) == ["healthy", "unhealthy"]


def test_failures_in_the_start_period_do_not_count_until_it_was_once_ready():
    assert news(tally(), BAD, BAD, BAD, BAD, age_s=9.0) == []
    assert news(tally(), GOOD, BAD, BAD, BAD, age_s=9.0) == ["healthy", "unhealthy"]


def test_what_the_workflow_knows_is_not_told_again():
    assert news(tally("healthy"), GOOD) == []
    assert news(tally("unhealthy"), BAD, BAD, BAD, BAD, GOOD) == ["healthy"]


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4))
def test_news_alternate_and_are_never_more_than_changes_of_the_answers(answers: list[bool], retries: int):
    said = news(tally(retries=retries), *(GOOD if good else BAD for good in answers))
    assert all(one != other for one, other in itertools.pairwise(said))
    changes = sum(one != other for one, other in itertools.pairwise(answers))
    assert len(said) <= changes + 1
