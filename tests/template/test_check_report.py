"""The example of `privatelink-guard check --json` is as its schema describes, and the schema says what is never so."""
import copy
import json
import pathlib

import jsonschema
import pytest

DOCS = pathlib.Path(__file__).parents[2] / "docs"
REPORT = json.loads((DOCS / "examples" / "check" / "report.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(json.loads((DOCS / "check.schema.json").read_text(encoding="utf-8")),
                                            format_checker=jsonschema.FormatChecker())


def test_the_example_is_as_the_schema_describes():
    VALIDATOR.validate(REPORT)
    assert {result["status"] for service in REPORT["services"] for result in service["results"]} == {
        "pass", "fail", "unknown"}


@pytest.mark.parametrize("status, field, value", [
    ("pass", "severity", "warning"), ("fail", "severity", None), ("unknown", "reason", None), ("fail", "remedy", None)])
def test_the_schema_refuses_what_contradicts_the_status(status, field, value):
    report = copy.deepcopy(REPORT)
    result = next(result for result in report["services"][0]["results"] if result["status"] == status)
    result[field] = value
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(report)
