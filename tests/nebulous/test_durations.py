"""Durations as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nebulous import durations

TEN_YEARS_S = 3650 * 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("5m", 300),
        ("1h30m", 5400),
        ("1d", 86_400),
        ("2w", 1_209_600),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("1H 30M", 5400),
        (" 30s ", 30),
        ("0s", 0),
    ],
)
def test_durations_are_read_as_written(text: str, seconds: float):
    assert durations.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "5", "5 minutes", "-5m", "5m!", "1h-5m", "h", "1e3s", "m5"])
def test_what_is_no_duration_is_refused_with_examples(text: str):
    with pytest.raises(ValueError, match=r"is not a duration: write a number with a unit, such as 30s, 5m, 1h30m"):
        durations.parse(text)


@pytest.mark.parametrize("text", ["3651d", "99999999h", "9" * 400 + "s"])
def test_more_than_ten_years_is_refused_whatever_its_size(text: str):
    with pytest.raises(ValueError, match="longer than ten years") as refused:
        durations.parse(text)
    assert len(str(refused.value)) < 120


@given(st.integers(0, 59), st.sampled_from(["s", "m", "h", "d"]), st.integers(0, 23))
def test_one_or_two_units_come_back_as_they_went(count: int, unit: str, hours: int):
    span = durations.parse(f"{count}{unit}") if unit != "d" else timedelta(days=count, hours=hours)
    assert durations.parse(durations.render(span)) == span


@given(st.integers(0, TEN_YEARS_S))
def test_rendering_never_makes_a_duration_longer_and_loses_little(seconds: int):
    shown = durations.parse(durations.render(seconds)).total_seconds()
    assert shown <= seconds
    assert seconds - shown < max(1, seconds * 0.05)


@given(st.integers(1, TEN_YEARS_S))
def test_a_negative_span_is_rendered_with_a_sign(seconds: int):
    assert durations.render(-seconds) == "-" + durations.render(seconds)


@given(st.text(max_size=12))
def test_any_text_is_either_a_duration_or_refused_with_words(text: str):
    said = ""
    try:
        assert timedelta(0) <= durations.parse(text) <= durations.LONGEST
    except ValueError as error:
        said = str(error)
    assert said == "" or "duration" in said
