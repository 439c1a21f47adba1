"""What was measured, as tables in Markdown, and what it must reach."""
import json
import platform
import re
import subprocess

from . import chart, formulas
from .local import ROOT
from .measure import FUNCTIONS

SHORT = {"connection-acceptor": "acceptor", "health-watcher": "health", "drift-watcher": "drift"}
RUNS = {"connection-acceptor": 12 * 730, "health-watcher": 60 * 730, "drift-watcher": 4 * 730}  # a month's schedules
DETAILS_EVERY = 5  # drift-watcher asks for details when those that it stored are 65 minutes old: in every fifth run
COUNTED = ("ec2", "elasticloadbalancing", "sns", "acm", "cloudwatch")


class Formulas:
    """The formulas of all functions: of each run, and of what drift-watcher adds in every fifth run."""

    def __init__(self, sizes):
        self.of, self.inexact = {}, {}
        for kind in ("guard", "python"):
            for function in FUNCTIONS:
                measured = {size: found[kind][function] for size, found in sizes.items()}
                counted = {size: of["run"] for size, of in measured.items()}
                extra = {size: {action: count - of["run"].get(action, 0) for action, count in of["first"].items()}
                         for size, of in measured.items()}
                self.of[kind, function], inexact = formulas.fit_all(_reads(counted))
                fifth, more = formulas.fit_all(_reads(extra))
                self.of[kind, function, "fifth"] = {name: it for name, it in fifth.items() if it["times"]}
                self.inexact.update({f"{kind} {function} {action}": counts
                                     for action, counts in (inexact | more).items()})

    def month(self, kind, services):
        """The scheduled runs' calls to COUNTED, with one target group per service."""
        regular = sum(RUNS[function] * formulas.calls(self.of[kind, function], services, services, COUNTED)
                      for function in FUNCTIONS)
        return regular + RUNS["drift-watcher"] // DETAILS_EVERY * formulas.calls(
            self.of[kind, "drift-watcher", "fifth"], services, services, COUNTED)

    def as_json(self):
        functions = {}
        for function in FUNCTIONS:
            functions[function] = {"run": _whole(self.of["guard", function])}
            if fifth := self.of["guard", function, "fifth"]:
                functions[function]["fifth"] = _whole(fifth)
        return json.dumps(functions, indent=2) + "\n"


def _reads(counted):
    """Without the table and messages, whose calls depend on what is new."""
    return {size: {action: count for action, count in actions.items()
                   if not action.startswith(("dynamodb:", "sns:Publish"))} for size, actions in counted.items()}


def _whole(of):
    return {action: {"times": formula["times"], "per": formula["per"]} for action, formula in of.items()}


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def figures(data, fitted):
    """The rows that have a bar: figure, bar, guard, Python, whether it was reached."""
    sizes, rows = data["sizes"], []

    def row(figure, bar, guard, python, reached):
        rows.append([figure, bar, guard, python, "yes" if reached else "**no**"])

    def health(kind, size):
        return sizes[size][kind]["health-watcher"]["ec2_and_elb"]

    one, forty = (1, 1), (40, 40)
    row("health-watcher, EC2 and ELB calls a run, 1 / 40 services", "1 / 40",
        f"{health('guard', one):.0f} / {health('guard', forty):.0f}",
        f"{health('python', one):.0f} / {health('python', forty):.0f}",
        health("guard", one) <= 1 and health("guard", forty) <= 40)
    warm = data["warm_chains"]
    row("its chain, warm, in round trips", "2", f"{warm['guard']['health-watcher']:.1f}",
        f"{warm['python']['health-watcher']:.1f}", warm["guard"]["health-watcher"] < 2.5)
    months = {kind: [fitted.month(kind, services) for services in (1, 40)] for kind in ("guard", "python")}
    row("EC2, ELB, SNS, ACM and CloudWatch calls a month, 1 / 40 services", "95,000 / 2,500,000",
        *(" / ".join(f"{count:,.0f}" for count in months[kind]) for kind in ("guard", "python")),
        months["guard"][0] < 95_000 and months["guard"][1] <= 2_500_000)
    for key, what in (("cold_acceptor", ""), ("cold_acceptor_connecting", ", new connections counted")):
        cold = data[key]
        row(f"cold acceptor, until SNS has what it sends, in round trips{what}", "5", f"{cold['guard']:.1f}",
            f"{cold['python']:.1f}", cold["guard"] < 5.5)
    for key, what in (("dbt_request", ""),
                      ("dbt_request_table_hangs", ", while the table hangs, without a limit of endpoints")):
        found = data[key]
        row(f"dbt's request, until it is accepted, in round trips{what}", "2",
            *(f"{found[kind]['chain']:.1f} + {found[kind]['seconds']:.2f} s" for kind in ("guard", "python")),
            found["guard"]["chain"] < 2.5 and found["guard"]["seconds"] < 1)
    for size, least, what in ((one, 6, "1 service"), (forty, 5, "40 services")):
        peak = {kind: [sizes[size][kind][function]["memory"] for function in FUNCTIONS] for kind in months}
        ratios = [python / guard for guard, python in zip(peak["guard"], peak["python"], strict=True)]
        row(f"memory, peak, {what}: acceptor / health / drift, in MiB", f"{least}x less",
            *(" / ".join(f"{value:.1f}" for value in peak[kind]) for kind in ("guard", "python")),
            min(ratios) >= least)
        rows[-1][2] += f" ({' / '.join(f'{ratio:.1f}x' for ratio in ratios)})"
    zips = [data["zips"][function][0] for function in FUNCTIONS]
    row("zip: acceptor / health / drift, in MB", "3.2 each", " / ".join(f"{size:.2f}" for size in zips),
        "boto3 is in Lambda's runtime", max(zips) < 3.25)
    for kind_rows in _deadlines(data["deadlines"]):
        row(*kind_rows)
    many = data["many"]
    row("1,000 target groups behind 40 services, a health run", "within its minute, 64 MiB",
        *(f"{many[kind]['seconds']:.1f} s, {many[kind]['memory']:.1f} MiB" for kind in months),
        many["guard"]["seconds"] < 60 and many["guard"]["memory"] <= 64 and not many["guard"]["failed"])
    return rows


def _deadlines(found):
    for function in ("health-watcher", "drift-watcher"):
        for answers_after in (6, 3600):
            for deadline in (110, 30):
                case = (function, answers_after, deadline)
                cells = {run["kind"]: run for run in found
                         if (run["function"], run["answers_after"], run["deadline"]) == case}
                guard = cells["guard"]
                when = "after 6 s" if answers_after == 6 else "never"
                named = guard["lost"] or "elasticloadbalancing" in (guard["error"] or "")
                yield (f"20 services x 3 groups, ELB answers {when}, deadline {deadline} s: {SHORT[function]}",
                       "ends 5 s before, sends what it saw, names the rest", _ending(guard), _ending(cells["python"]),
                       not guard["killed"] and deadline - guard["seconds"] >= 5 and named)


def _ending(run):
    if run["killed"]:
        return f"killed, {run['sent']} sent"
    how = "in error" if run["error"] else "well"
    return f"ends {how} {run['deadline'] - run['seconds']:.0f} s before, {run['sent']} sent"


def details(data, fitted):
    sizes, kinds = data["sizes"], ("guard", "python")
    parts = ["Formulas: EC2 and ELB calls of a run without rate limits, for services with one load balancer each.\n"]
    rows = []
    for function in FUNCTIONS:
        fifth = fitted.of["guard", function, "fifth"]
        own = formulas.text(fitted.of["guard", function])
        own += f"; in every fifth run {formulas.text(fifth)} more" if formulas.calls(fifth, 1, 1) else ""
        rows.append([function, own, formulas.text(fitted.of["python", function])])
    parts.append(table(["function", "guard", "Python"], rows))
    if fitted.inexact:
        parts.append(f"\nNot exact: `{json.dumps(fitted.inexact)}`")
    parts.append("\nMedians of a run in which nothing is new, without delay and without rate limits. After ten calls "
                 "to ELB, the guard waits of its own accord:\n")
    rows = [[f"{services:,} / {groups:,}", SHORT[function]] + [
        f"{found[kind][function][key] * by:,.{digits}f}" for key, by, digits in
        (("seconds", 1000, 0), ("cpu", 1000, 0), ("memory", 1, 1), ("ec2_and_elb", 1, 0)) for kind in kinds]
        for (services, groups), found in sizes.items() for function in FUNCTIONS]
    parts.append(table(["services / groups", "function", "ms", "Python", "CPU ms", "Python", "peak MiB", "Python",
                        "EC2 and ELB calls", "Python"], rows))
    cold, warm = data["cold_starts"], data["warm_chains"]
    parts.append("\nStart, from exec to the first request for an event, and the chain of a warm run without rate "
                 "limits:\n")
    parts.append(table(["function", "start, ms", "Python", "round trips", "Python"],
                       [[function, *(f"{cold[kind][function]:.1f}" for kind in kinds),
                         *(f"{warm[kind][function]:.1f}" for kind in kinds)] for function in FUNCTIONS]))
    if data.get("others"):
        parts += ["\n" + _others(data)]
    return "\n".join(parts)


def _others(data):
    rows = []
    for services, found in data["others"].items():
        own = data["sizes"][services, services]["guard"]
        rows.append([f"{services}", "the guard's health-watcher and drift-watcher",
                     f"{own['health-watcher']['seconds'] + own['drift-watcher']['seconds']:.1f}",
                     f"{max(own[name]['memory'] for name in ('health-watcher', 'drift-watcher')):.0f}",
                     f"{own['health-watcher']['ec2_and_elb'] + own['drift-watcher']['ec2_and_elb']:.0f}"])
        rows += [[f"{services}", name, f"{it['seconds']:.1f}", f"{it['memory']:.0f}", f"{it['ec2_and_elb']}"]
                 if "seconds" in it else [f"{services}", name, it["failed"].replace("\n", " "), "", ""]
                 for name, it in found.items()]
    return ("What people run instead, on the same account, without rate limits. They start anew for each run; the "
            "guard is warm.\n\n"
            + table(["services", "program", "seconds", "peak MiB", "EC2 and ELB calls"], rows))


def growth(data):
    sizes, names = data["sizes"], {"guard": "guard", "python": "Python"}
    by_service = [size for size in sizes if size[0] == size[1]]

    def calls(function):
        return [(name, "drift-watcher" if function == "drift-watcher" else "", f"{name}, {SHORT[function]}",
                 [(size[0], sizes[size][kind][function]["ec2_and_elb"]) for size in by_service])
                for kind, name in names.items()]

    def passes(kind):
        alone = {groups: (services, *it["passes"]["health-watcher"])
                 for (services, groups, of, tool), it in data["together"].items() if of == kind and not tool}
        return [(groups, seconds) for groups, (services, read, seconds) in sorted(alone.items()) if read == services]

    def memory(kind):
        by_group = {groups: found[kind]["health-watcher"]["memory"] for (_, groups), found in sizes.items()}
        return sorted({**by_group, 1000: data["many"][kind]["memory"]}.items())

    def lines(of):
        return [(name, "", f"{name}, health", of(kind)) for kind, name in names.items() if of(kind)]

    return chart.svg([
        ("EC2 and ELB calls a run", "endpoint services, one target group each",
         calls("health-watcher") + calls("drift-watcher")),
        ("Seconds of a pass of health-watcher, with limits", "target groups", lines(passes)),
        ("Peak memory of health-watcher, MiB", "target groups", lines(memory))])


def machine():
    text = (ROOT / "/proc/cpuinfo").read_text(encoding="ascii")
    cpus = re.findall(r"^model name\s*: (.*)", text, re.MULTILINE)
    kib = int(re.search(r"MemTotal:\s+(\d+)", (ROOT / "/proc/meminfo").read_text(encoding="ascii"))[1])
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{cpus[0] if cpus else platform.machine()}, {len(cpus)} cores, {kib / 2**20:.0f} GiB, {system}"


def commit():
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    measured = ("Cargo.*", "functions", "shared", "local-aws")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *measured)
    return git("rev-parse", "--short", "HEAD") + (" with uncommitted changes" if changed else "")
