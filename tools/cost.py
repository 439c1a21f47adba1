#!/usr/bin/env python3
"""The monthly cost of privatelink-guard, for 1 and for 50 endpoint services: a table in Markdown.

    python3 tools/cost.py [--kms-key] [--busy]

Prices and assumptions are below, each price with its source; change them and run it again. The table is in
docs/cost.md, without the rows below one cent, and its totals without the free tier are in the README; a test compares
them. Calls to EC2 and Elastic Load Balancing are free; `make bench` has measured how many there are. The free tiers
counted here do not expire; a free tier applies once per account, not per stack.
"""
import argparse
import json
import math
import pathlib

CALLS = pathlib.Path(__file__).parent.parent / "benches/calls.json"
HOURS = 730  # in an average month
GB = 2**30

# ---- prices -------------------------------------------------------------------------------------------------------
# USD, us-east-1, list prices without discounts and tax. AWS's price pages load most numbers by script, so these come
# from pages that quote them, with the date of that page. AWS's own page is authoritative.

PRICES = {  # name: (USD, per how many, free per month, AWS's page, source, as of)
    "Lambda requests": (0.20, 10**6, 10**6, "https://aws.amazon.com/lambda/pricing/",
                        "https://cloudchipr.com/blog/aws-lambda-pricing", "2024"),
    "Lambda GB-seconds, x86_64": (0.0000166667, 1, 400_000, "https://aws.amazon.com/lambda/pricing/",
                                 "https://cloudchipr.com/blog/aws-lambda-pricing", "2024"),
    "DynamoDB read units, on demand": (0.125, 10**6, 0, "https://aws.amazon.com/dynamodb/pricing/on-demand/",
                                       "https://airbyte.com/data-engineering-resources/dynamodb-pricing", "2025-07"),
    "DynamoDB write units, on demand": (0.625, 10**6, 0, "https://aws.amazon.com/dynamodb/pricing/on-demand/",
                                        "https://airbyte.com/data-engineering-resources/dynamodb-pricing", "2025-07"),
    "CloudWatch Logs, GB taken in": (0.50, 1, 5, "https://aws.amazon.com/cloudwatch/pricing/",
                                     "https://cloudburn.io/blog/amazon-cloudwatch-pricing", "2026-02"),
    "CloudWatch custom metrics": (0.30, 1, 10, "https://aws.amazon.com/cloudwatch/pricing/",
                                  "https://signoz.io/guides/cloudwatch-pricing", "2026-02"),
    "CloudWatch alarms": (0.10, 1, 10, "https://aws.amazon.com/cloudwatch/pricing/",
                          "https://cloudburn.io/blog/amazon-cloudwatch-pricing", "2026-02"),
    "CloudWatch dashboards": (3.00, 1, 3, "https://aws.amazon.com/cloudwatch/pricing/",
                              "https://cloudburn.io/blog/amazon-cloudwatch-pricing", "2026-02"),
    "CloudWatch metrics asked for": (0.01, 1000, 0, "https://aws.amazon.com/cloudwatch/pricing/",
                                     "https://support.site24x7.com/portal/en/kb/articles/"
                                     "aws-cloudwatch-metrics-cost-calculation", "no date"),
    "SNS messages": (0.50, 10**6, 10**6, "https://aws.amazon.com/sns/pricing/",
                     "https://www.factualminds.com/blog/amazon-sns-pricing-publishes-fanout-protocols/", "2026-06"),
    "SNS emails": (2.00, 10**5, 1000, "https://aws.amazon.com/sns/pricing/",
                   "https://www.factualminds.com/blog/amazon-sns-pricing-publishes-fanout-protocols/", "2026-06"),
    "SQS requests": (0.40, 10**6, 10**6, "https://aws.amazon.com/sqs/pricing/",
                     "https://cloudburn.io/blog/amazon-sqs-pricing", "2026-03"),
    # Rules for events of AWS services are free.
    "EventBridge Scheduler starts": (1.00, 10**6, 14 * 10**6, "https://aws.amazon.com/eventbridge/pricing/",
                                     "https://cloudburn.io/blog/amazon-eventbridge-pricing", "2026-03"),
    # The guard's own calls, in a trail's first copy.
    "CloudTrail management events": (0.00, 1, 0, "https://aws.amazon.com/cloudtrail/pricing/",
                                     "https://aws.amazon.com/cloudtrail/pricing/", "no date"),
    "KMS keys": (1.00, 1, 0, "https://aws.amazon.com/kms/pricing/", "https://aws.amazon.com/kms/pricing/", "no date"),
}

# ---- assumptions --------------------------------------------------------------------------------------------------

SERVICES_PER_STACK = 30  # the template's limit
# With the parameters' defaults; a test compares them with template.yaml.
ALARMS, DASHBOARDS, RUNS_PER_HOUR = 10, 1, {"Acceptor": 12, "Health": 60, "Drift": 4}
MEMORY_GB = 128 / 1024
# Billed seconds of a run with one endpoint service, and for each further one. Not measured on AWS; a generous estimate.
SECONDS = {"Acceptor": (0.5, 0.02), "Health": (1.0, 0.1), "Drift": (2.0, 0.2)}
# A stack's runs per month that events start: dbt's connections, and changes to what is on dbt's path.
NOTIFICATIONS, CHANGES = 900, 100
TAGS_EVERY = 5  # drift-watcher reads tags and attributes when those it stored are 65 minutes old: in every fifth run
# In a busy account, other people change something that drift-watcher's rules match once in so many seconds. Each such
# event starts it for so many seconds, in which it reads the stored ids, so many KB per service, and nothing else.
CHANGE_EVERY, SECONDS_PER_CHANGE, IDS_KB, LOG_BYTES_PER_CHANGE = 10, 0.05, 2, 1000
READS_PER_RUN_AND_SERVICE = 2  # a consistent query of up to 8 KB, most of it the stored path
WRITES_PER_SERVICE = 1000  # changes per month, in units of 1 KB
PATH_KB = 4  # the path that each run of drift-watcher stores per service
LOG_BYTES_PER_RUN, LOG_BYTES_PER_RUN_AND_SERVICE = 2000, 100
MESSAGES_PER_SERVICE, EMAIL_ADDRESSES = 30, 2
CUSTOM_METRICS = 13  # per stack: alerts and UnknownChecks of each function, two of targets, two of connections
DEAD_LETTER_REQUESTS = 100
ASKED_METRICS = 2  # per endpoint of dbt's and hour: GetMetricData, with one endpoint per service


def calls_per_run(function, services, details_every=TAGS_EVERY):
    """Calls to EC2 and Elastic Load Balancing, for services with one load balancer and one target group each."""
    measured = json.loads(CALLS.read_text(encoding="utf-8"))
    name = next(name for name in measured if function.lower() in name)
    twenties = math.ceil(services / 20)
    number = {"run": 1, "service": services, "target group": services, "20 services": twenties,
              "20 target groups": twenties}

    def total(formulas):
        return sum(formula["times"] * number[formula["per"]] for action, formula in formulas.items()
                   if action.startswith(("ec2:", "elasticloadbalancing:")))

    return total(measured[name]["run"]) + total(measured[name].get("fifth", {})) / details_every


def usage(services, kms_key=False, busy=False):
    """The usage per month, by the names of PRICES. `busy`: in an account where others make changes all day."""
    stacks = math.ceil(services / SERVICES_PER_STACK)
    each = services / stacks  # services in a stack
    runs = {name: rate * HOURS * stacks for name, rate in RUNS_PER_HOUR.items()}
    scheduled = sum(runs.values())
    runs["Acceptor"] += NOTIFICATIONS * stacks
    runs["Drift"] += CHANGES * stacks
    others = HOURS * 3600 / CHANGE_EVERY * stacks if busy else 0  # each stack has the rule
    seconds = sum(count * (SECONDS[name][0] + SECONDS[name][1] * (each - 1)) for name, count in runs.items())
    calls = sum(count * calls_per_run(name, each) for name, count in runs.items())
    # The run of a change reads the service that it concerns, with its details.
    calls += CHANGES * stacks * (calls_per_run("Drift", 1, details_every=1) - calls_per_run("Drift", each))
    total = sum(runs.values())
    log = total * (LOG_BYTES_PER_RUN + LOG_BYTES_PER_RUN_AND_SERVICE * (each - 1)) + others * LOG_BYTES_PER_CHANGE
    ids = math.ceil(each * IDS_KB / 4)  # the read units of a consistent query
    messages = MESSAGES_PER_SERVICE * services
    return {
        "Lambda requests": total + others,
        "Lambda GB-seconds, x86_64": (seconds + others * SECONDS_PER_CHANGE) * MEMORY_GB,
        "DynamoDB read units, on demand": total * each * READS_PER_RUN_AND_SERVICE + (CHANGES * stacks + others) * ids,
        "DynamoDB write units, on demand": (
            WRITES_PER_SERVICE + runs["Drift"] / stacks * (PATH_KB + IDS_KB)) * services,
        "CloudWatch Logs, GB taken in": log / GB,
        "CloudWatch custom metrics": CUSTOM_METRICS * stacks,
        "CloudWatch alarms": ALARMS * stacks,
        "CloudWatch dashboards": DASHBOARDS * stacks,
        "CloudWatch metrics asked for": ASKED_METRICS * HOURS * services,
        "SNS messages": messages,
        "SNS emails": messages * EMAIL_ADDRESSES,
        "SQS requests": DEAD_LETTER_REQUESTS * stacks,
        "EventBridge Scheduler starts": scheduled,
        "CloudTrail management events": calls,
        "KMS keys": stacks if kms_key else 0,
    }


def cost(name, used, free_tier):
    """Rounded to cents, like the bill, so that the table adds up."""
    price, per, free, *_ = PRICES[name]
    return round(max(0, used - (free if free_tier else 0)) / per * price, 2)


def number(value):
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"


def table(counts, kms_key=False, busy=False):
    columns = [usage(services, kms_key, busy=busy) for services in counts]
    heads = [head for services in counts
             for head in (f"{services} service{'s' if services > 1 else ''}: used", "USD", "USD with free tier")]
    lines = ["| | " + " | ".join(heads) + " | price as of |", "|---|" + "--:|" * len(heads) + "---|"]
    totals = [0.0] * (2 * len(counts))
    for name in PRICES:
        if not any(used[name] for used in columns):
            continue
        cells = []
        for index, used in enumerate(columns):
            without, within = cost(name, used[name], False), cost(name, used[name], True)
            totals[2 * index] += without
            totals[2 * index + 1] += within
            cells += [number(used[name]), f"{without:.2f}", f"{within:.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {PRICES[name][5]} |")
    cells = [cell for index in range(len(counts))
             for cell in ("", f"**{totals[2 * index]:.2f}**", f"**{totals[2 * index + 1]:.2f}**")]
    lines.append("| **total a month** | " + " | ".join(cells) + " | |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kms-key", action="store_true", help="with a customer managed key per stack")
    parser.add_argument("--busy", action="store_true", help="in an account where others change something every 10 s")
    options = parser.parse_args()
    print(table((1, 50), options.kms_key, options.busy))


if __name__ == "__main__":
    main()
