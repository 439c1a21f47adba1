"""What the dependencies may be, from Cargo.lock alone: deny.toml's rules without cargo-deny, in seconds and offline.

`make audit` runs cargo-deny itself, and asks for advisories.
"""
import collections
import json
import re
import subprocess

import pytest
from rendering import ROOT

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
DENY = (ROOT / "deny.toml").read_text(encoding="utf-8")
ALLOWED = set(re.findall(r'"([^"]+)"', re.search(r"allow = \[(.*?)\]", DENY, re.DOTALL)[1]))


def cargo(*arguments, platforms):
    """Runs cargo for Lambda's platforms only: what other systems need may not have been downloaded."""
    targets = [word for machine in ("x86_64", "aarch64") for word in (platforms, f"{machine}-unknown-linux-gnu")]
    return subprocess.run(["cargo", *arguments, *targets, "--offline", "--locked"], cwd=ROOT, capture_output=True,
                          text=True, check=True).stdout


@pytest.fixture(scope="module")
def packages():
    """What is compiled into the functions and the command, or helps to compile them."""
    lines = cargo("tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--format", "{p}",
                  platforms="--target")
    used = {tuple(line.split()[:2]) for line in lines.splitlines() if line}
    every = json.loads(cargo("metadata", "--format-version", "1", platforms="--filter-platform"))["packages"]
    return [each for each in every if (each["name"], f"v{each['version']}") in used]


def may_be(expression):
    """Whether an SPDX expression is met with the allowed licences. Old crates write / for OR."""
    names = re.findall(r"[\w.+-]+(?: WITH [\w.+-]+)?", re.sub(r" ?/ ?| OR | AND ", " | ", expression))
    terms = re.sub(r" ?/ ?", " OR ", expression)
    for name in sorted(names, key=len, reverse=True):
        terms = re.sub(rf"(?<![\w.+-]){re.escape(name)}(?![\w.+-]| WITH)", str(name in ALLOWED), terms)
    terms = terms.replace("OR", "or").replace("AND", "and")
    assert re.fullmatch(r"(True|False|or|and|[() ])+", terms), expression
    return eval(terms)


@pytest.mark.parametrize("expression, met", [
    ("MIT", True), ("GPL-3.0", False), ("GPL-3.0 OR MIT", True), ("GPL-3.0 AND MIT", False), ("MIT/GPL-2.0", True),
    ("(MIT OR Apache-2.0) AND Unicode-3.0", True), ("(GPL-2.0 OR MPL-2.0) AND MIT", False),
    ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", True), ("GPL-3.0 WITH Classpath-exception-2.0", False),
])
def test_an_expression_is_met_if_every_part_is(expression, met):
    assert may_be(expression) is met


def test_every_licence_is_allowed(packages):
    refused = {f"{each['name']} {each['version']}": each["license"] for each in packages
               if not each["license"] or not may_be(each["license"])}
    assert refused == {}
    assert len(packages) > 200


def test_the_release_collects_the_texts_of_the_same_licences():
    about = (ROOT / "about.toml").read_text(encoding="utf-8")
    assert set(re.findall(r'"([^"]+)"', re.search(r"accepted = \[(.*?)\]", about, re.DOTALL)[1])) == ALLOWED


def test_every_package_is_from_crates_io_and_has_a_checksum():
    locked = (ROOT / "Cargo.lock").read_text(encoding="utf-8").split("[[package]]\n")[1:]
    for package in locked:
        fields = dict(re.findall(r'^(\w+) = "(.*)"$', package, re.MULTILINE))
        if "source" in fields:
            assert fields["source"] == CRATES_IO, fields["name"]
            assert re.fullmatch(r"[0-9a-f]{64}", fields.get("checksum", "")), fields["name"]
        else:
            assert f'version = "{fields["version"]}"' in (ROOT / "Cargo.toml").read_text(encoding="utf-8")


def test_nothing_is_there_twice_without_a_reason(packages):
    versions = collections.defaultdict(set)
    for each in packages:
        versions[each["name"]].add(each["version"])
    twice = {name: found for name, found in versions.items() if len(found) > 1}
    assert all(len(found) == 2 for found in twice.values()), twice
    skipped = re.findall(r'\{ crate = "([\w-]+)@([\d.]+)", reason = ".+" \}', DENY)
    assert {name for name, _ in skipped} == set(twice)
    for name, version in skipped:
        assert any(f"{found}.".startswith(f"{version}.") for found in twice[name]), name


def test_no_banned_crate_is_there(packages):
    banned = set(re.findall(r'\{ crate = "([\w-]+)", reason', DENY))
    assert len(banned) == 3
    assert not banned & {each["name"] for each in packages}
