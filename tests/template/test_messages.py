"""The examples of what programs receive are as the schema describes."""
import json
import pathlib

import jsonschema
import pytest

DOCS = pathlib.Path(__file__).parents[2] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.json"))
VALIDATOR = jsonschema.Draft202012Validator(json.loads((DOCS / "alert.schema.json").read_text(encoding="utf-8")),
                                            format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_is_as_the_schema_describes(example):
    VALIDATOR.validate(json.loads(example.read_text(encoding="utf-8")))


def test_there_is_an_example_of_every_kind_and_severity():
    transitions = [transition for example in EXAMPLES
                   for transition in json.loads(example.read_text(encoding="utf-8"))["transitions"]]
    assert {transition["kind"] for transition in transitions} == {"firing", "reminder", "resolved", "notice"}
    assert {transition["severity"] for transition in transitions} == {"info", "warning", "critical"}


def test_the_schema_refuses_another_form():
    example = json.loads(EXAMPLES[0].read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({**example, "schemaVersion": "1.0"})
