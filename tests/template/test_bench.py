"""The documents and the cost calculation use what `make bench` measured."""
import importlib.util
import json
import sys

import pytest
from rendering import ROOT, render, source

sys.path.insert(0, str(ROOT / "benches"))
from harness import chart, company, formulas, neighbours, report, report_neighbours
from harness.lambdas import Invocation
from harness.measure import Kind

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


def test_the_cost_counts_the_alarms_dashboards_and_runs_of_the_template():
    rendered, parameters = render(), source()["Parameters"]
    kinds = [rendered.of_type(f"AWS::CloudWatch::{kind}") for kind in ("Alarm", "Dashboard")]
    assert [len(kind) for kind in kinds] == [cost.ALARMS, cost.DASHBOARDS]
    minutes = {name: int(parameters[f"{name}Schedule"]["Default"].removeprefix("rate(").split(" ")[0])
               for name in cost.RUNS_PER_HOUR}
    assert {name: 60 / every for name, every in minutes.items()} == cost.RUNS_PER_HOUR


def test_a_health_run_asks_only_for_the_targets_health():
    assert formulas.calls(MEASURED["health-watcher"]["run"], 1, 1) == 1
    assert formulas.calls(MEASURED["health-watcher"]["run"], 40, 40) == 40


def test_the_page_on_costs_has_the_number_of_calls_a_month():
    one, fifty = (cost.usage(services)["CloudTrail management events"] for services in (1, 50))
    written = f"{round(one, -4):,.0f} events a month for one service, {round(fifty, -6) / 10**6:.0f} million for fifty"
    assert written in " ".join((ROOT / "docs/cost.md").read_text(encoding="utf-8").split())


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


def test_one_service_stays_below_95_000_calls_a_month():
    """To EC2, ELB, SNS, ACM and CloudWatch, by the schedules."""
    of_run, now_and_then = (sum(report.RUNS[function] * formulas.calls(of.get(when, {}), 1, 1, report.COUNTED)
                                for function, of in MEASURED.items()) for when in ("run", "fifth"))
    assert 80_000 < of_run + now_and_then / report.DETAILS_EVERY < 95_000


def request(process, at, group="group", error=None, action="DescribeTargetHealth"):
    return {"principal": f"arn:aws:iam::111122223333:user/{process}", "at": at, "duration_ms": 100, "error": error,
            "action": action, "arns": [group]}


def test_a_service_is_read_when_all_of_its_groups_are_and_a_run_in_error_reads_nothing():
    owner = company.Company([company.Service("vpce-svc-1", "name", "balancer", "sg-1", ["one", "two"])], "", "")
    runs = [Invocation("health-1", 10, 20, "an error"), Invocation("health-1", 30, 40), Invocation("health-2", 50)]
    requests = [request("health-1", 12, "one"), request("health-1", 13, "two"),  # in error
                request("health-1", 31, "one"), request("health-1", 25, "two"),  # the second in no run
                request("health-2", 51, "two", error="Throttling"), request("health-2", 52, "two"),
                request("drift-1", 53, "one"), request("health-2", 54, "one"),
                request("health-2", 55, "one", action="DescribeTags")]
    assert neighbours._reads(Kind("guard"), "health-watcher", owner, runs, requests) == {
        "vpce-svc-1": (52.1, 52.1)}, "first read as a whole, and since when its oldest group is known"
    assert neighbours._reads(Kind("guard"), "health-watcher", owner, runs, requests[:5]) == {}


def measured(**changes):
    return {"seconds": 190.2, "runs": 6, "failed": 0, "lost": 0, "calls": 435, "refused": 0,
            "passes": {"health-watcher": (20, 44.4), "drift-watcher": (6, 58.0)}, "oldest": 70.4, "least": 21.3,
            "tool": {"per_second": 4, "granted": 761, "refused": 0}, **changes}


def test_what_has_rate_limits_has_its_own_tables():
    data = {"together": {(20, 60, "guard", 4): measured(), (20, 60, "python", 4): measured(
                failed=5, refused=222, oldest=None, tool={"per_second": 4, "granted": 727, "refused": 34})},
            "foreign": {"guard": {"events": 1000, "runs": 0, "ec2_and_elb": 0, "table": 1000, "failed": 0},
                        "python": {"events": 20, "runs": 20, "ec2_and_elb": 1880, "table": 600, "failed": 0}},
            "crowd": {"guard": 1.84, "python": None}}
    beside, foreign, crowd = report_neighbours.figures(data)
    assert beside[2:] == ["0, 0.0 %", "5, 51.0 %", "yes"]
    assert foreign[2:] == ["1,000 / 0 / 0", "30,000 / 94,000 / 1,000", "yes"]
    assert crowd[2:] == ["1.8 s", "not in 60 s", "yes"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in report_neighbours.details(data).splitlines()]
    assert ["20 / 60", "4 a second", "guard", "190 s", "6", "0", "0", "435", "0.0 %", "44 s", "6 of 20 services",
            "70 s", "21", "0 of 761"] in rows
    assert rows[5][-3:] == ["never", "21", "34 of 761"]
    assert report_neighbours.figures({**data, "crowd": {"guard": None, "python": None}})[2][-1] == "**no**"
