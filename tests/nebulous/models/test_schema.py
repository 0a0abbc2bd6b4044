"""The JSON schemas and the generated pages agree with the models."""

from pathlib import Path

import pytest

from nebulous import reference
from nebulous.models.base import Spec
from nebulous.models.containers import ContainerSpec
from nebulous.models.kinds import KINDS
from nebulous.models.schema import models, schema

DOCS = Path(__file__).parents[3] / "docs"


def test_the_schema_of_a_container_accepts_both_spellings_and_no_other_key():
    made = schema("container")
    assert set(made["properties"]) == {*ContainerSpec.model_fields, "env"}
    assert made["properties"]["env"]["anyOf"] == made["properties"]["env_vars"]["anyOf"]
    assert "owner_id" in made["$defs"]["MetadataRequest"]["properties"]
    assert made["additionalProperties"] is False


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_schema_names_its_kind_and_requires_it(kind):
    made = schema(kind)
    assert made["title"] == made["properties"]["kind"]["const"] == kind.name
    assert made["required"][0] == "kind"


def test_a_field_required_under_its_canonical_name_may_come_under_its_alias(monkeypatch):
    class Aliased(Spec):
        """One required field with two spellings."""

        aliases = {"old": "new"}
        new: str

    class Kind:
        """As little of a kind as a schema needs."""

        name = "Aliased"
        model = Aliased

    made = schema(Kind())  # type: ignore[arg-type]
    assert made["required"] == ["kind"]
    assert made["allOf"] == [{"anyOf": [{"required": ["new"]}, {"required": ["old"]}]}]


def test_labels_may_be_written_as_numbers_in_the_schema_too():
    labels = schema("container")["$defs"]["MetadataRequest"]["properties"]["labels"]["anyOf"][0]
    assert labels["additionalProperties"] == {"type": ["string", "number", "boolean"]}


@pytest.mark.parametrize("page", ["cli.md", "fields.md", "sdk-methods.md", "settings.md"])
def test_the_generated_pages_are_fresh(page: str):
    """Run `python -m nebulous.reference docs` when this fails."""
    assert (DOCS / page).read_text() == reference.pages()[page]


def test_every_field_that_people_write_says_what_it_means():
    silent = [
        f"{model.__name__}.{name}"
        for kind in KINDS
        for model in models(kind.model)
        for name, field in model.model_fields.items()
        if not field.description and name != "kind"
    ]
    assert silent == []


def test_the_page_marks_exactly_the_fields_that_real_platforms_refuse():
    from api.checks import NOT_YET

    refused = {name for name, where in reference.ACTS.items() if where.startswith("simulated platforms only")}
    assert refused == set(NOT_YET)
    assert set(reference.EFFECTIVE) <= set(ContainerSpec.model_fields)
    assert set(reference.ACTS) <= set(ContainerSpec.model_fields)


def test_the_command_writes_all_pages(tmp_path: Path, capsys):
    assert reference.main([str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {
        "cli.md",
        "fields.md",
        "metrics.md",
        "sdk-methods.md",
        "settings.md",
    }
    assert reference.main([]) == 2
    assert "usage:" in capsys.readouterr().err
