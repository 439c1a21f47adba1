"""The pages of `check --html` and of `make verify`, in a browser. The pictures are in target/pages/, to look at."""
import json
import os
import pathlib
import platform
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TOOLS = ROOT / ".tools/browser"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
FOLDER = TARGET / "pages"
PAGES = ("all-green", "broken", "fifty-targets", "before-the-service", "verify")
VIEWS = ("light", "dark", "tablet", "phone", "phone-dark")

in_all_views = pytest.mark.parametrize("view", VIEWS)
of_all_pages = pytest.mark.parametrize("page", PAGES)


def browser():
    """Chromium from .tools, which is for Linux on x86_64; elsewhere the machine's own, if it has one."""
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return TOOLS / "chromium/chromium"
    installed = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    return next(installed, None) or pytest.skip("no Chromium on this machine: the pages are not looked at")


@pytest.fixture(scope="session")
def found():
    executable = browser()
    for example in ("pages", "report"):
        subprocess.run([TARGET / "debug/examples" / example, FOLDER], check=True)
    pages = [FOLDER / f"{page}.html" for page in PAGES]
    inspect = pathlib.Path(__file__).with_name("inspect.mjs")
    run = subprocess.run([TOOLS / "node/bin/node", inspect, TOOLS, executable, FOLDER, *pages],
                         stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    return json.loads(run.stdout)


@of_all_pages
@in_all_views
def test_axe_finds_no_barrier(found, page, view):
    assert found[page]["views"][view]["violations"] == []


@of_all_pages
@in_all_views
def test_nothing_is_requested_and_no_script_runs(found, page, view):
    seen = found[page]["views"][view]
    assert (seen["requests"], seen["dialogs"], seen["complaints"]) == ([], [], [])


@of_all_pages
@in_all_views
def test_it_scrolls_only_downwards(found, page, view):
    content, window = found[page]["views"][view]["width"]
    assert content <= window


@of_all_pages
def test_the_tab_key_reaches_everything_and_shows_where_it_is(found, page):
    seen = found[page]["views"]["light"]
    assert [focus["index"] for focus in seen["tabbing"]] == seen["interactive"]
    assert all(focus["visible"] for focus in seen["tabbing"])


@of_all_pages
def test_it_reads_the_same_without_scripts(found, page):
    assert found[page]["readable"]


@of_all_pages
def test_on_paper_nothing_is_closed_cut_off_or_dark(found, page):
    printed = found[page]["printed"]
    assert printed["passes"] or page == "verify"
    assert all(printed["passes"])
    assert not printed["cut"]
    assert printed["background"] == "rgb(255, 255, 255)"
    assert printed["violations"] == []
