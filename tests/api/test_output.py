"""Places in the output of a life."""

from __future__ import annotations

from api.output import Place


def test_a_place_survives_its_number() -> None:
    for place in (Place(), Place(1, 0), Place(3, 12_345), Place(9999, 2**39)):
        assert Place.of(place.id) == place
    assert Place(1, 2**39).id < Place(2, 0).id < 2**63
