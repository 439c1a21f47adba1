"""What was measured with AWS's rate limits and among other people's changes, as tables, and what it must reach."""
from .neighbours import GIVE_UP, SECOND_TOOL, SERVICES
from .report import table

NAMES = {"guard": "guard", "python": "Python"}


def figures(data):
    """The rows that have a bar, as report.figures() has them."""
    beside = [data["together"][20, 60, kind, SECOND_TOOL] for kind in NAMES]
    foreign, crowd = ([data[name][kind] for kind in NAMES] for name in ("foreign", "crowd"))
    return [
        _row("with rate limits, 60 target groups behind 20 services, all functions at once, beside a tool of 4 calls a "
             "second: runs in error and reads lost, calls refused", "0, under 5 %",
             [f"{_failed(it)}, {_refused(it)}" for it in beside],
             not _failed(beside[0]) and beside[0]["refused"] < 0.05 * beside[0]["calls"]),
        _row("1,000 events of other people's changes: calls to the table / to EC2 and ELB / runs", "2,000 / 0 / 0",
             [_of_a_thousand(it) for it in foreign],
             foreign[0]["table"] <= 2000 and not any(foreign[0][name] for name in ("ec2_and_elb", "runs", "failed"))),
        _row(f"with rate limits, a change of ours among ten of others a second, {SERVICES} services: until SNS has the "
             "alert", "10 s", [_until(seconds) for seconds in crowd], crowd[0] is not None and crowd[0] <= 10)]


def _row(figure, bar, values, reached):
    return [figure, bar, *values, "yes" if reached else "**no**"]


def _failed(it):
    return it["failed"] + it["lost"]


def _refused(it):
    return f"{100 * it['refused'] / it['calls']:.1f} %"


def _of_a_thousand(it):
    return " / ".join(f"{it[name] * 1000 / it['events']:,.0f}" for name in ("table", "ec2_and_elb", "runs"))


def _until(seconds):
    return f"not in {GIVE_UP} s" if seconds is None else f"{seconds:.1f} s"


def details(data):
    rows = [[f"{services} / {groups}", f"{tool} a second" if tool else "none", NAMES[kind], f"{it['seconds']:.0f} s",
             f"{it['runs']}", f"{it['failed']}", f"{it['lost']}", f"{it['calls']:,}", _refused(it),
             *(_pass(it["passes"][function], services) for function in ("health-watcher", "drift-watcher")),
             "never" if it["oldest"] is None else f"{it['oldest']:.0f} s", f"{it['least']:.0f}", _lost(it["tool"])]
            for (services, groups, kind, tool), it in sorted(data["together"].items())]
    changes = [[NAMES[kind], f"{it['events']:,}", _of_a_thousand(it), f"{it['failed']}", _until(data["crowd"][kind])]
               for kind, it in data["foreign"].items()]
    return "\n".join([
        "All functions at once, **with AWS's rate limits**, in real time: all three start at the same moment, with an "
        "empty table, and then as their schedules say. What a run read that ended in error counts for nothing. The "
        "fewest tokens are those of ELB's bucket for reads.\n",
        table(["services / groups", "second tool", "", "watched", "runs", "in error", "visibility.lost",
               "EC2 and ELB calls", "refused", "health pass", "drift pass", "oldest read of targets", "fewest tokens",
               "lost by the tool"], rows),
        f"\nEvents of other people's changes to drift-watcher, {SERVICES} services: one after the other, without rate "
        "limits; and ten a second with them, until an alert of a change of ours among them has been sent.\n",
        table(["", "events", "per 1,000: calls to the table / to EC2 and ELB / runs", "in error", "alert"], changes)])


def _pass(read, services):
    number, seconds = read
    return f"{seconds:.0f} s" if number == services else f"{number} of {services} services"


def _lost(tool):
    return f"{tool['refused']} of {tool['granted'] + tool['refused']}" if tool["per_second"] else ""
