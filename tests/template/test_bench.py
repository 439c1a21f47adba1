"""What `make bench` has measured is what the code's documents and the cost are made of."""
import importlib.util
import json
import sys

import pytest
from rendering import ROOT

sys.path.insert(0, str(ROOT / "benches"))
from harness import chart, formulas

spec = importlib.util.spec_from_file_location("cost", ROOT / "tools/cost.py")
cost = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cost)

MEASURED = json.loads((ROOT / "benches/calls.json").read_text(encoding="utf-8"))
NAMES = {"Acceptor": "connection-acceptor", "Health": "health-watcher", "Drift": "drift-watcher"}


@pytest.mark.parametrize("services", [1, 15, 20, 21, 30])
def test_the_cost_counts_the_calls_that_were_measured(services):
    for name, function in NAMES.items():
        of_run, now_and_then = (formulas.calls(MEASURED[function].get(when, {}), services, services)
                                for when in ("run", "fifth"))
        assert cost.calls_per_run(name, services) == of_run + now_and_then / cost.TAGS_EVERY


def test_a_health_run_asks_only_for_the_targets_health():
    assert formulas.calls(MEASURED["health-watcher"]["run"], 1, 1) == 1
    assert formulas.calls(MEASURED["health-watcher"]["run"], 40, 40) == 40


def test_the_documents_have_the_number_of_calls_a_month():
    one, fifty = (cost.usage(services)["CloudTrail management events"] for services in (1, 50))
    written = f"{round(one, -4):,.0f} events a month for one service, {round(fifty, -6) / 10**6:.0f} million for fifty"
    for page in ("README.md", "docs/cost.md"):
        assert written in " ".join((ROOT / page).read_text(encoding="utf-8").split()), page


def test_the_formulas_name_actions_that_the_functions_may_call():
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    actions = {action for function in MEASURED.values() for of in function.values() for action in of}
    assert [action for action in sorted(actions) if action not in template] == []


@pytest.mark.parametrize("counts, formula", [
    ({(1, 1): 3, (40, 40): 3}, (3, "run")),
    ({(1, 1): 2, (40, 40): 80, (40, 120): 80}, (2, "service")),
    ({(1, 1): 1, (40, 40): 40, (40, 120): 120}, (1, "target group")),
    ({(1, 1): 1, (40, 40): 2, (40, 120): 6}, (1, "20 target groups")),
    ({(1, 1): 1, (40, 40): 7, (40, 120): 11}, None),
    ({(1, 1): 0.5, (40, 40): 0.5}, None),
])
def test_a_formula_is_exact_or_there_is_none(counts, formula):
    assert formulas.fit(counts) == formula


def test_formulas_are_written_as_people_read_them():
    of = {"ec2:A": {"times": 1, "per": "run"}, "ec2:B": {"times": 2, "per": "run"},
          "elasticloadbalancing:C": {"times": 1, "per": "service"}, "cloudwatch:D": {"times": 9, "per": "run"}}
    assert formulas.text(of) == "3 + 1 per service"
    assert formulas.calls(of, 40, 40) == 43


def test_a_line_of_the_chart_rises_with_its_values():
    drawn = chart.svg([("title", "services", [("guard", "", "guard", [(1, 1), (10, 10), (100, 100)])])])
    assert drawn.count("<circle") == 3
    assert drawn.startswith("<svg")
