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
    data.update(sizes={}, others={}, zips=bench.zips())
    if with_deadlines:
        say("slow answers and deadlines")
        data["deadlines"] = bench.deadlines(40, 3)
    for services, groups in sizes:
        say(f"{services} services with {groups} target groups each")
        with LocalAws() as aws:
            owner = company.set_up(aws, services, groups)
            # Of so many target groups, only health-watcher is measured: the local AWS is too slow for the others.
            functions = FUNCTIONS if services * groups < 1000 else ("health-watcher",)
            data["sizes"][services, services * groups] = bench.size(aws, owner, functions)
            if groups == 1 and services in (1, 40):
                data["others"][services] = others.measure(aws)
            if services == 1:
                chains(bench, aws, owner, data)


def chains(bench, aws, owner, data):
    say("starts and chains")
    data["cold_starts"] = bench.cold_starts(aws, owner)
    data["warm_chains"] = bench.warm_chains(aws, owner)
    data["cold_acceptor"] = bench.cold_acceptor(aws, owner, with_connections=False)
    data["cold_acceptor_connecting"] = bench.cold_acceptor(aws, owner, with_connections=True)
    data["dbt_request"] = bench.dbt_request(aws, owner)
    data["dbt_request_table_hangs"] = bench.dbt_request(aws, owner, table_hangs=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstraps", type=pathlib.Path, default=ROOT / "target/lambda",
                        help="a folder with FUNCTION/bootstrap for each function")
    parser.add_argument("--runs", type=int, default=20, help="runs per median")
    parser.add_argument("--quick", action="store_true", help="only 1 and 10 services; writes nothing")
    parser.add_argument("--again", action="store_true", help="report the last measurement again")
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
        data = {"head": head}
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
