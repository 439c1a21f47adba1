"""The rules on CloudTrail events match the events that the checks depend on, as the catalogue of checks lists them."""
import json
import subprocess

import pytest
from rendering import ROOT, source

PROGRAM = ROOT / "target/debug/examples/catalogue"
# Each function and the group of checks that it runs. No function needs an event for the group "visibility".
GROUPS = {"ConnectionAcceptor": "connections", "DriftWatcher": "settings", "HealthWatcher": "health"}
# Whose events a function's rule has. drift-watcher stores what health-watcher goes by.
RULES = {"ConnectionAcceptor": ["connections"], "DriftWatcher": ["settings", "health"]}


@pytest.fixture(scope="module")
def catalogue():
    assert PROGRAM.exists(), "build it with `make local-build`"
    printed = subprocess.run([PROGRAM, "json"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return json.loads(printed)


def events(catalogue, group):
    return {event for check in catalogue if check["group"] == group for event in check["cloudtrailEvents"]}


def rules(name):
    """The `eventName` lists of the function's rules."""
    triggers = source()["Resources"][name]["Properties"]["Events"].values()
    return [trigger["Properties"]["Pattern"]["detail"]["eventName"]
            for trigger in triggers if trigger["Type"] == "EventBridgeRule"]


def test_every_check_belongs_to_a_function_or_is_about_the_guard_itself(catalogue):
    assert {check["group"] for check in catalogue} == {*GROUPS.values(), "visibility", "delivery"}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_the_events_that_the_functions_checks_depend_on_and_no_other(catalogue, name):
    [listed] = rules(name)
    expected = {event for group in RULES[name] for event in events(catalogue, group)}
    assert expected
    assert set(listed) == expected
    assert listed == sorted(expected), "sorted, each once"


def test_health_watcher_has_no_rule_and_visibility_depends_on_no_event(catalogue):
    assert rules("HealthWatcher") == []
    assert events(catalogue, "visibility") == set()
