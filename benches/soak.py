#!/usr/bin/env python3
"""A thousand warm runs of each function while things break and are fixed: memory and open files must not grow."""
import argparse
import pathlib
import sys

from harness import company
from harness.company import SCHEDULED
from harness.local import ROOT, LocalAws
from harness.measure import FUNCTIONS
from harness.report import table
from harness.runtime import Function

# What is allocated once has been by the first of these; later ones are compared with it.
WARM = 200
EVERY = 50  # runs between two changes, and between two samples
# A run's garbage differs from the next one's by less; a leak of a kilobyte in each run is more.
MAX_GROWTH = 0.5  # MiB


def disturb(aws, owner, broken):
    """Breaks, or fixes, something that each function reports."""
    service = owner.services[0]
    aws.control("target-health", target_group=service.groups[0], target=company.TARGETS[0],
                state="unhealthy" if broken else "healthy")
    aws.client("elbv2").modify_load_balancer_attributes(LoadBalancerArn=service.load_balancer, Attributes=[
        {"Key": "load_balancing.cross_zone.enabled", "Value": str(not broken).lower()}])
    if broken:
        return company.request(aws, service)
    return None


def soak(aws, owner, process, runs):
    """Samples of memory in MiB and of open files, by the number of runs."""
    samples, requested = {}, None
    for number in range(1, runs + 1):
        run = process.run(SCHEDULED)
        if run.error or run.killed:
            sys.exit(f"{process.name}, run {number}: {run}")
        if number % EVERY == 0:
            samples[number] = (process.memory(), process.open_files())
            if requested:
                company.remove(aws, requested)
            requested = disturb(aws, owner, broken=number % (2 * EVERY) == EVERY)
    return samples


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", default="target/debug/{}", help="the functions, {} for a function's name")
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    rows, leaks = [], []
    for function in FUNCTIONS:
        print(f"==> {options.runs} runs of {function}", flush=True)
        with LocalAws() as aws:
            owner = company.set_up(aws, 1, 1)  # of more, the guard would pace its calls, and each run take seconds
            variables = owner.variables(company.create_table(aws, "soak")) | {"ALERT_AFTER": "1", "RESOLVE_AFTER": "1"}
            command = [str(pathlib.Path(ROOT, options.bootstrap.format(function)))]
            with Function(function, command, variables, aws.endpoint) as process:
                samples = soak(aws, owner, process, options.runs)
            sent = len(aws.control("mail"))
        after = [sample for number, sample in samples.items() if number >= WARM]
        (first, files), (last, files_at_end) = after[0], after[-1]
        rows.append([function, f"{first:.2f} MiB", f"{last:.2f} MiB", f"{files} / {files_at_end}", str(sent)])
        if max(memory for memory, _ in after) > first + MAX_GROWTH or max(count for _, count in after) > files:
            leaks.append(function)
    print(table(["function", f"after {WARM} runs", f"after {options.runs}", "open files", "messages"], rows))
    if leaks:
        sys.exit(f"memory or open files grow: {', '.join(leaks)}")


if __name__ == "__main__":
    main()
