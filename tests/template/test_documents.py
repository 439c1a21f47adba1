"""The documents name checks, parameters, outputs and sections that exist."""
import re

import pytest
from rendering import ROOT, source

PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(page for folder in ("benches", "docs", "infra", "local-aws")
                                          for page in (ROOT / folder).rglob("*.md"))])
FRONT_PAGE = (ROOT / "docs/README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs/dbt-guide.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHECKS = set(re.findall(r"(?m)^\| \[`([a-z.-]+)`\]", README))


def anchors(page):
    """What a link can point to: headings, as GitHub names them, and explicit anchors."""
    text = page.read_text(encoding="utf-8")
    headings = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in
                re.findall(r"(?m)^#+ (.+)$", text)]
    return {*headings, *re.findall(r'<a id="([^"]+)">', text)}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_in_a_document_leads_somewhere(page):
    text = re.sub(r"`[^`]*`", "`code`", page.read_text(encoding="utf-8"))
    for path, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text)):
        if not path.startswith("https:"):
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), path
            assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_page_on_dbts_guide_names_every_check_and_none_that_does_not_exist():
    named = set(re.findall(r"`((?:service|connection|load-balancer|listener|target-group|network-path|visibility)"
                           r"(?:\.[a-z-]+)?)`", GUIDE))
    assert len(CHECKS) > 20
    # The guide has no line for a read that fails, or for who hears the guard.
    assert named == CHECKS - {"visibility.lost", "delivery.subscribers"}, "a line for each in docs/dbt-guide.md"


def test_the_page_on_dbts_guide_names_parameters_outputs_and_documents_that_exist():
    camel = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)(?:=\w+)?`", GUIDE))
    names = set(source()["Parameters"]) | set(source("infra/endpoint-service.yaml")["Outputs"])
    assert {"DbtPrincipals", "CrossZone", "CrossZoneCommand", "FlowLogGroup"} <= camel <= names
    assert "docs/dbt-guide.md" in README


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 180
    assert len(README.split()) <= 1500
    assert [line for line in lines if line.startswith("|") and len(line) > 200] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_front_page_leads_to_every_page_of_docs(page):
    assert page.name == "README.md" or f"]({page.name}" in FRONT_PAGE
