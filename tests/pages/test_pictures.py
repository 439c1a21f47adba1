"""The documents' pictures show what the code prints now, in both colour schemes, and say it in words."""
import json
import re

import pytest
import terminal_svg
from pictures import IMAGES, MANIFEST, ROOT, drawings, manifest, print_everything

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
PICTURE = re.compile(r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">\s*'
                     r'<img alt="(?P<alt>[^"]*)" src="(?P<light>[^"]+)"(?: width="\d+")?>\s*</picture>')
FILES = {*IMAGES.glob("*.svg"), *IMAGES.glob("*.webp")}


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("printed")
    print_everything(folder)
    return folder


def test_the_terminals_show_what_is_printed(printed):
    for name, svg in drawings(printed).items():
        assert (IMAGES / name).read_text(encoding="utf-8") == svg, f"run `make pictures`: {name}"


def test_the_photographs_show_the_pages_as_they_are(printed):
    assert json.loads(MANIFEST.read_text(encoding="utf-8")) == manifest(printed), "run `make pictures`"


def test_every_picture_is_shown_in_both_schemes_and_in_words():
    shown = [(page, *picture) for page in DOCUMENTS for picture in PICTURE.findall(page.read_text(encoding="utf-8"))]
    assert {page.parent / path for page, dark, _, light in shown for path in (dark, light)} == FILES
    for _, dark, alt, light in shown:
        assert dark.replace("-dark.", "-light.") == light != dark
        assert len(alt.split()) >= 8, f"what does {light} show?"


def test_all_images_of_the_documents_are_below_a_megabyte():
    assert 0 < sum(file.stat().st_size for file in IMAGES.iterdir()) < 1_000_000


def test_a_drawn_terminal_breaks_lines_and_keeps_colours():
    svg = terminal_svg.drawing("$", 4, "ab\x1b[1m\x1b[32mcdef\x1b[0mg", "light", moving=False)
    green = 'style="font-weight:bold;fill:#116329"'
    rows = re.findall(r'<tspan x="([\d.]+)" textLength="([\d.]+)"(?: (style="[^"]+"))?>([^<]+)<', svg)
    assert rows[1:] == [("18.0", "16.8", "", "ab"), ("34.8", "16.8", green, "cd"),
                        ("18.0", "16.8", green, "ef"), ("34.8", "8.4", "", "g")]


def test_the_demo_moves_at_the_pace_at_which_it_ran():
    lines = ["== one", "   7.0 s  dbt asks", "          $ aws", "   9.5 s  accepted", "== two", "  60.0 s  dbt asks"]
    assert list(terminal_svg.moments(lines)) == [1.5, 2.5, 2.5, 5, 6.5, 7.5]
