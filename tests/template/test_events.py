"""The rules on CloudTrail events match the events that the checks depend on, as the catalogue of checks lists them."""
import json
import subprocess

import botocore.session
import pytest
from rendering import ROOT, source

PROGRAM = ROOT / "target/debug/examples/catalogue"
# Each function and the group of checks that it runs. No function needs an event for the group "visibility".
GROUPS = {"ConnectionAcceptor": "connections", "DriftWatcher": "settings", "HealthWatcher": "health"}
# The functions whose events are in a function's rule. drift-watcher stores the path that health-watcher uses.
RULES = {"ConnectionAcceptor": ["connections"], "DriftWatcher": ["settings", "health"]}


@pytest.fixture(scope="module")
def catalogue():
    assert PROGRAM.exists(), "build it with `make local-build`"
    printed = subprocess.run([PROGRAM, "json"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return json.loads(printed)


def events(catalogue, group):
    return {event for check in catalogue if check["group"] == group for event in check["cloudtrailEvents"]}


def rules(name):
    """The patterns of the function's rules."""
    triggers = source()["Resources"][name]["Properties"]["Events"].values()
    return [trigger["Properties"]["Pattern"] for trigger in triggers if trigger["Type"] == "EventBridgeRule"]


def calls(service):
    """The calls of the service whose CloudTrail events have this source."""
    name = {"elasticloadbalancing": "elbv2"}.get(service, service)
    return set(botocore.session.get_session().get_service_model(name).operation_names)


def test_every_check_belongs_to_a_function_or_is_about_the_guard_itself(catalogue):
    assert {check["group"] for check in catalogue} == {*GROUPS.values(), "visibility", "delivery"}


@pytest.mark.parametrize("name", RULES)
def test_the_rules_have_the_events_of_their_checks_and_no_other(catalogue, name):
    expected = {event for group in RULES[name] for event in events(catalogue, group)}
    lists = [rule["detail"]["eventName"] for rule in rules(name)]
    assert expected
    assert sorted(event for listed in lists for event in listed) == sorted(expected), "each once"
    assert all(listed == sorted(listed) for listed in lists)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_only_calls_of_its_services(name):
    for rule in rules(name):
        services = [source.removeprefix("aws.") for source in rule["source"]]
        assert rule["detail"]["eventSource"] == [f"{service}.amazonaws.com" for service in services]
        for service in services:
            assert calls(service) & set(rule["detail"]["eventName"]), service
        assert set(rule["detail"]["eventName"]) <= {call for service in services for call in calls(service)}
        assert rule["detail"]["errorCode"] == [{"exists": False}], "a call that failed changed nothing"


def test_health_watcher_has_no_rule_and_visibility_depends_on_no_event(catalogue):
    """drift-watcher notes the changes that health-watcher's checks depend on."""
    assert rules("HealthWatcher") == []
    assert events(catalogue, "visibility") == set()
