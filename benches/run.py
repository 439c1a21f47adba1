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

from harness import company, neighbours, others, report, report_neighbours
from harness.local import ROOT, LocalAws
from harness.measure import FEW, Bench

BENCHES = ROOT / "benches"
LAST = ROOT / "target/bench/last.pickle"
# Services, and target groups of each: as many as one run of each function has time for.
SIZES = [(1, 1), (10, 1), (20, 3), (40, 1)]
MANY = (40, 25)
QUICK = [(1, 1), (10, 1)]


def say(text):
    print(f"==> {time.strftime('%H:%M:%S')} {text}", flush=True)


def measure(bench, sizes, data, everything):
    """Adds to `data` what is not in it."""
    data.setdefault("zips", bench.zips())
    for name in ("sizes", "others"):
        data.setdefault(name, {})
    if everything:
        if "deadlines" not in data:
            say("slow answers and deadlines")
            data["deadlines"] = bench.deadlines(20, 3)
        if "many" not in data:
            say(f"services with target groups of each, of which one run reads a part: {MANY}")
            with LocalAws() as aws:
                data["many"] = bench.many_groups(aws, company.set_up(aws, *MANY))
        with_limits(bench, data)
    for services, groups in sizes:
        say(f"{services} services with {groups} target groups each")
        with LocalAws() as aws:
            owner = company.set_up(aws, services, groups)
            if (services, services * groups) not in data["sizes"]:
                data["sizes"][services, services * groups] = bench.size(aws, owner)
            if groups == 1 and services in (1, 40) and services not in data["others"]:
                data["others"][services] = others.measure(aws)
            if services == 1:
                chains(bench, aws, owner, data)


def count_calls(bench):
    """The formulas of the calls alone."""
    sizes = {}
    for services, groups in SIZES:
        say(f"{services} services with {groups} target groups each")
        with LocalAws() as aws:
            sizes[services, services * groups] = bench.size(aws, company.set_up(aws, services, groups))
    return report.Formulas(sizes)


def with_limits(bench, data):
    together = data.setdefault("together", {})
    for batch, seconds in neighbours.BATCHES:
        if any((services, services * groups, "guard", 0) not in together for services, groups in batch):
            say(f"all functions at once for {seconds} seconds: services and target groups of each: {batch}")
            together.update(neighbours.together(bench, batch, seconds))
    for name, what, measured in (("foreign", "events of other people's changes", neighbours.foreign_events),
                                 ("crowd", "a change of ours among others", neighbours.crowd)):
        if name not in data:
            say(what)
            data[name] = measured(bench)


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
    parser.add_argument("--limits", action="store_true", help="only what has AWS's rate limits; writes nothing")
    parser.add_argument("--calls", action="store_true", help="only the calls, which a busy machine does not change; "
                                                             "writes calls.json")
    parser.add_argument("--again", action="store_true", help="report the last measurement again")
    parser.add_argument("--resume", action="store_true", help="complete a measurement that failed")
    parser.add_argument("--log", default="/dev/null", help="what the functions log")
    options = parser.parse_args()
    # So that what was started is stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    bench = Bench(options.bootstraps.resolve(), FEW if options.calls else options.runs, options.log)
    if options.calls:
        (BENCHES / "calls.json").write_text(count_calls(bench).as_json(), encoding="utf-8")
        return
    if options.limits:
        data = {}
        with_limits(bench, data)
        print(report_neighbours.details(data))
        return
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
    bars = report.table(columns, report.figures(data, fitted) + report_neighbours.figures(data))
    text = "\n\n".join([data["head"], "Without AWS's rate limits, unless a row names them.", bars,
                        report_neighbours.details(data), report.details(data, fitted)])
    print(text)
    with open(BENCHES / "RESULTS.md", "a", encoding="utf-8") as results:
        results.write(f"\n{text}\n")
    (BENCHES / "calls.json").write_text(fitted.as_json(), encoding="utf-8")
    (BENCHES / "growth.svg").write_text(report.growth(data), encoding="utf-8")


if __name__ == "__main__":
    main()
