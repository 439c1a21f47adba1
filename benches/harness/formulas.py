"""How the number of calls grows: a formula for each action, which must give exactly what was counted."""
import math

# What a number of calls can be proportional to, for s services (with a load balancer each) and g target groups.
SHAPES = {
    "run": lambda s, g: 1,
    "service": lambda s, g: s,
    "target group": lambda s, g: g,
    "20 services": lambda s, g: math.ceil(s / 20),
    "20 target groups": lambda s, g: math.ceil(g / 20),
}


def fit(counts):
    """The formula of an action, as (times, shape), for its counts by (services, target groups); None: none is exact."""
    for shape, of in SHAPES.items():
        (size, count), *_ = counts.items()
        times, rest = divmod(count, of(*size))
        if not rest and all(count == times * of(*size) for size, count in counts.items()):
            return int(times), shape
    return None


def fit_all(calls):
    """The formulas of a function, by action, for its calls by size; and the actions that no formula fits."""
    actions = sorted({action for counted in calls.values() for action in counted})
    found = {action: fit({size: counted.get(action, 0) for size, counted in calls.items()}) for action in actions}
    exact = {action: {"times": formula[0], "per": formula[1]} for action, formula in found.items() if formula}
    return exact, {action: {str(size): counted.get(action, 0) for size, counted in calls.items()}
                   for action, formula in found.items() if not formula}


def calls(formulas, services, groups, of=("ec2", "elasticloadbalancing")):
    """The calls to these services of AWS."""
    return sum(formula["times"] * SHAPES[formula["per"]](services, groups) for action, formula in formulas.items()
               if action.split(":")[0] in of)


def text(formulas, of=("ec2", "elasticloadbalancing")):
    """As people read it: `11 + 5 per service`."""
    per = {}
    for action, formula in formulas.items():
        if action.split(":")[0] in of:
            per[formula["per"]] = per.get(formula["per"], 0) + formula["times"]
    parts = [f"{per[shape]}" if shape == "run" else f"{per[shape]} per {shape}" for shape in SHAPES if per.get(shape)]
    return " + ".join(parts) or "0"
