"""The numbers of tools/cost.py add up."""
import importlib.util
import re
import subprocess
import sys

import pytest
from infra_support import ROOT

spec = importlib.util.spec_from_file_location("cost", ROOT / "tools/cost.py")
cost = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cost)


def cells(lines):
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]


def rows(*arguments):
    printed = subprocess.run([sys.executable, ROOT / "tools/cost.py", *arguments], capture_output=True, text=True,
                             check=True)
    return cells(printed.stdout.splitlines())


def table_in(page):
    """The page's only table."""
    return cells(line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|"))


@pytest.mark.parametrize("arguments", [[], ["--kms-key"], ["--busy"]])
def test_the_totals_are_the_sums_of_their_columns(arguments):
    head, _, *items, total = rows(*arguments)
    assert total[0] == "total a month"
    assert len({len(row) for row in [head, *items, total]}) == 1
    money = [index for index, name in enumerate(head) if name.startswith("USD")]
    assert len(money) == 4
    for column in money:
        assert float(total[column]) == pytest.approx(sum(float(row[column]) for row in items), abs=0.001)
    for without, within in zip(money[::2], money[1::2], strict=True):
        assert all(float(row[within]) <= float(row[without]) for row in [*items, total])


def test_a_line_calculated_by_hand():
    """56,480 runs: every 5 minutes, every minute and every 15 minutes for 730 hours, and a thousand by events."""
    used = cost.usage(1)
    assert used["Lambda requests"] == 12 * 730 + 60 * 730 + 4 * 730 + 1000
    assert used["Lambda GB-seconds, x86_64"] == pytest.approx((9660 * 0.5 + 43800 * 1 + 3020 * 2) / 8)
    assert (used["CloudWatch alarms"], used["KMS keys"]) == (10, 0)
    assert cost.cost("CloudWatch custom metrics", 12, False) == 3.6
    assert cost.cost("CloudWatch custom metrics", 12, True) == 0.6


def test_fifty_services_are_two_stacks():
    one, many = cost.usage(1), cost.usage(50)
    assert many["CloudWatch alarms"] == 2 * one["CloudWatch alarms"]
    assert many["CloudWatch custom metrics"] == 2 * one["CloudWatch custom metrics"]
    reads = {services: used["DynamoDB read units, on demand"] for services, used in ((1, one), (50, many))}
    assert 49.9 * reads[1] < reads[50] < 50.1 * reads[1], "the ids of a service take no whole unit"


def test_the_documented_table_is_the_printed_one_without_rows_below_a_cent():
    printed = rows()
    money = [index for index, name in enumerate(printed[0]) if name.startswith("USD")]
    worth_a_row = [row for row in printed if any(row[column] != "0.00" for column in money)]
    assert table_in(ROOT / "docs/cost.md") == worth_a_row


def test_the_readme_has_the_totals():
    head, *_, total = table_in(ROOT / "docs/cost.md")
    amounts = [f"{total[index]} USD" for index, name in enumerate(head) if name.startswith("USD")]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert len(amounts) == 4
    # Without the free tier, for one service and for fifty; the page has the others.
    assert re.findall(r"[\d.]+ USD", readme) == [amounts[0], amounts[2]]


def test_the_documents_have_the_totals_of_a_busy_account():
    total = rows("--busy")[-1]
    one, one_free, fifty, fifty_free = (cell for cell in total[1:] if re.fullmatch(r"[\d.]+", cell))
    page = " ".join((ROOT / "docs/cost.md").read_text(encoding="utf-8").split())
    assert f"costs {one} USD for one service and {fifty} USD for fifty" in page
    assert f"with the free tier, {one_free} USD and {fifty_free} USD" in page


def test_every_price_names_its_source_and_date():
    for name, (price, per, free, page, source, as_of) in cost.PRICES.items():
        assert price >= 0, name
        assert per > 0, name
        assert free >= 0, name
        assert page.startswith("https://aws.amazon.com/"), name
        assert source.startswith("https://"), name
        assert re.fullmatch(r"20\d\d(-\d\d)?|no date", as_of), name
