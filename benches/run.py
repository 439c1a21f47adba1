#!/usr/bin/env python3
"""Measures the guard side by side with Python, against one local AWS: see benches/README.md."""
import argparse
import json
import pathlib
import pickle
import shlex
import signal
import sys
import time

from harness import company, others, report
from harness.local import ROOT, LocalAws
from harness.measure import FUNCTIONS, Bench

BENCHES = ROOT / "benches"
LAST = ROOT / "target/bench/last.pickle"
# Services, and target groups of each.
SIZES = [(1, 1), (10, 1), (20, 5), (40, 1), (40, 25)]
QUICK = [(1, 1), (10, 1)]


def say(text):
    print(f"==> {time.strftime('%H:%M:%S')} {text}", flush=True)


def measure(bench, sizes, data, with_deadlines):
    """Adds to `data` what is not in it."""
    data.setdefault("zips", bench.zips())
    for name in ("sizes", "others"):
        data.setdefault(name, {})
    if with_deadlines and "deadlines" not in data:
        say("slow answers and deadlines")
        data["deadlines"] = bench.deadlines(40, 3)
    for services, groups in sizes:
        say(f"{services} services with {groups} target groups each")
        with LocalAws() as aws:
            owner = company.set_up(aws, services, groups)
            if (services, services * groups) not in data["sizes"]:
                # Of so many target groups, only health-watcher is measured: the local AWS is too slow for the others.
                functions = FUNCTIONS if services * groups < 1000 else ("health-watcher",)
                data["sizes"][services, services * groups] = bench.size(aws, owner, functions)
            if groups == 1 and services in (1, 40) and services not in data["others"]:
                data["others"][services] = others.measure(aws)
            if services == 1:
                chains(bench, aws, owner, data)


def chains(bench, aws, owner, data):
    say("starts and chains")
    for name, measured in {
        "cold_starts": lambda: bench.cold_starts(aws, owner),
        "warm_chains": lambda: bench.warm_chains(aws, owner),
        "cold_acceptor": lambda: bench.cold_acceptor(aws, owner, with_connections=False),
        "cold_acceptor_connecting": lambda: bench.cold_acceptor(aws, owner, with_connections=True),
        "dbt_request": lambda: bench.dbt_request(aws, owner),
        "dbt_request_table_hangs": lambda: bench.dbt_request(aws, owner, table_hangs=True),
    }.items():
        if name not in data:
            data[name] = measured()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstraps", type=pathlib.Path, default=ROOT / "target/lambda",
                        help="a folder with FUNCTION/bootstrap for each function")
    parser.add_argument("--runs", type=int, default=20, help="runs per median")
    parser.add_argument("--quick", action="store_true", help="only 1 and 10 services; writes nothing")
    parser.add_argument("--again", action="store_true", help="report the last measurement again")
    parser.add_argument("--resume", action="store_true", help="complete a measurement that failed")
    parser.add_argument("--log", default="/dev/null", help="what the functions log")
    options = parser.parse_args()
    # So that what was started is stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    bench = Bench(options.bootstraps.resolve(), options.runs, options.log)
    if options.again:
        data = pickle.loads(LAST.read_bytes())
    else:
        head = (f"## {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC\n\nMachine: {report.machine()}. "
                f"Commit: {report.commit()}. Command: `{shlex.join(sys.argv)}`.")
        data = pickle.loads(LAST.read_bytes()) if options.resume else {"head": head}
        try:
            measure(bench, QUICK if options.quick else SIZES, data, not options.quick)
        finally:
            if not options.quick:
                LAST.parent.mkdir(parents=True, exist_ok=True)
                LAST.write_bytes(pickle.dumps(data))
    fitted = report.Formulas(data["sizes"])
    if options.quick:
        print(report.details(data, fitted))
        print(json.dumps({name: value for name, value in data.items() if name not in ("sizes", "others")}, indent=1))
        return
    columns = ["figure", "must reach", "guard", "Python", "reached"]
    bars = report.table(columns, report.figures(data, fitted))
    text = "\n\n".join([data["head"], bars, report.details(data, fitted)])
    print(text)
    with open(BENCHES / "RESULTS.md", "a", encoding="utf-8") as results:
        results.write(f"\n{text}\n")
    (BENCHES / "calls.json").write_text(fitted.as_json(), encoding="utf-8")
    (BENCHES / "growth.svg").write_text(report.growth(data), encoding="utf-8")


if __name__ == "__main__":
    main()
