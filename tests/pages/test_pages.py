"""The pages of `check --html` and `make inbox`, in a browser.

The pictures are in target/pages/, to look at.
"""
import subprocess
import warnings

import pytest
from pictures import TARGET, browser, node

FOLDER = TARGET / "pages"
PAGES = ("all-green", "broken", "fifty-targets", "before-the-service", "inbox")
VIEWS = ("light", "dark", "tablet", "phone", "phone-dark")
PICTURES = tuple(f"{page}:{view}" for page in PAGES for view in (*VIEWS, "print"))

in_all_views = pytest.mark.parametrize("view", VIEWS)


# ---- the pictures: for people, no assertions -------------------------------------------------------------------------


def take(pictures):
    """Takes pictures in one browser. Returns the missing ones, each with the reason."""
    for picture in pictures:
        (FOLDER / f"{picture.replace(':', '-')}.png").unlink(missing_ok=True)
    try:
        return node("photograph.mjs", FOLDER, *pictures)
    except (AssertionError, subprocess.TimeoutExpired) as failure:
        return dict.fromkeys(pictures, str(failure))


def photograph(take=take, pictures=PICTURES):
    """Takes pictures, those that fail once more in a fresh browser, and warns of those that fail again."""
    missing = take(pictures)
    for picture, why in (take(list(missing)) if missing else {}).items():
        warnings.warn(f"no picture of {picture}, in two browsers: {why}", stacklevel=1)


@pytest.fixture(scope="session")
def examples():
    """The folder with the pages."""
    if not browser():
        pytest.skip("no Chromium on this machine: the pages are not looked at")
    subprocess.run([TARGET / "debug/examples/pages", FOLDER], check=True)
    subprocess.run([TARGET / "debug/inbox", FOLDER], check=True)
    return FOLDER


@pytest.fixture(scope="session", autouse=True)
def pictures(examples):
    """The pictures of all pages, as far as the browser yields them."""
    photograph()


def test_a_picture_is_taken_again_in_a_fresh_browser():
    calls = []

    def fails_once(pictures):
        calls.append(list(pictures))
        return {"broken:dark": "Unable to capture screenshot"} if len(calls) == 1 else {}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photograph(fails_once, ["broken:dark", "broken:light"])
    assert calls == [["broken:dark", "broken:light"], ["broken:dark"]]


def test_a_picture_that_is_missing_twice_is_a_warning():
    """A page that does not exist: Chromium cannot show it, in neither browser."""
    with pytest.warns(UserWarning, match="no picture of none:dark, in two browsers: .*ERR_FILE_NOT_FOUND") as said:
        photograph(pictures=["none:dark"])
    assert len(said) == 1


# ---- the inspection, of each page for itself -------------------------------------------------------------------------


@pytest.fixture(scope="session", params=PAGES)
def page(request, examples):
    """The name of a page, and what a browser of its own found on it."""
    return request.param, node("inspect.mjs", examples / f"{request.param}.html")


@in_all_views
def test_axe_finds_no_barrier(page, view):
    assert page[1]["views"][view]["violations"] == []


@in_all_views
def test_nothing_is_requested_and_no_script_runs(page, view):
    seen = page[1]["views"][view]
    assert (seen["requests"], seen["dialogs"], seen["complaints"]) == ([], [], [])


@in_all_views
def test_it_scrolls_only_downwards(page, view):
    content, window = page[1]["views"][view]["width"]
    assert content <= window


def test_the_tab_key_reaches_everything_and_shows_where_it_is(page):
    seen = page[1]["views"]["light"]
    assert [focus["index"] for focus in seen["tabbing"]] == seen["interactive"]
    assert all(focus["visible"] for focus in seen["tabbing"])


def test_it_reads_the_same_without_scripts(page):
    assert page[1]["readable"]


def test_on_paper_nothing_is_closed_cut_off_or_dark(page):
    name, found = page
    printed = found["printed"]
    assert printed["passes"] or name == "inbox"
    assert all(printed["passes"])
    assert not printed["cut"]
    assert printed["background"] == "rgb(255, 255, 255)"
    assert printed["violations"] == []
