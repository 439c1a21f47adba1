"""The stack's parameters in `make deploy`: read, checked against the template, compared with the deployed ones.

Nothing here asks AWS: what CloudFormation would refuse after minutes of compiling is refused before.
"""
import collections
import difflib
import ipaddress
import re
import shlex

from account import Problem
from awscli.customizations.cloudformation.yamlhelper import yaml_parse

# Each service has resources of its own, and a policy that names them all has to fit.
MOST_SERVICES = 30
# Of private IPv4 addresses: RFC 1918 and RFC 6598. The same as in shared/core/src/config.rs.
PRIVATE = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]


# ---- what the command was given --------------------------------------------------------------------------------------


def pairs(variable, text, name=r"[A-Za-z][A-Za-z0-9]*\+?"):
    """Name=value, separated by spaces; a value ends where the next name begins."""
    parts = re.split(rf"(?:^|\s+)(?={name}=)", text.strip())
    if parts[0]:
        raise Problem(f'{variable}="{text}" does not begin with Name=value. Example: {variable}="DryRun=false"')
    every = [part.strip().split("=", 1) for part in parts[1:]]
    if twice := repeated(key.removesuffix("+") for key, _ in every):
        raise Problem(f"{variable} names {', '.join(twice)} twice, so it is not known which value you mean.")
    if quoted := [key for key, value in every if value.startswith(("'", '"'))]:
        raise Problem(f"{variable} takes no quotes inside it, so those of {', '.join(quoted)} would be part of the "
                      "value. Leave them out: a value ends where the next name begins.")
    return dict(every)


def items(value):
    """The items of a list. CloudFormation takes spaces around them."""
    return [each.strip() for each in value.split(",") if each.strip()]


def repeated(names):
    return [each for each, count in collections.Counter(names).items() if count > 1]


# ---- what the template declares --------------------------------------------------------------------------------------


class Template:
    """The parameters, their labels and the rules of a template."""

    def __init__(self, text, command):
        """`command` gives the command with these parameters, for people to run."""
        self.command = command
        content = yaml_parse(text)
        labels = content["Metadata"]["AWS::CloudFormation::Interface"]["ParameterLabels"]
        self.parameters, self.rules = content["Parameters"], content["Rules"]
        self.labels = {name: label["default"] for name, label in labels.items()}
        self.defaults = {name: str(each["Default"]) for name, each in self.parameters.items() if "Default" in each}

    def chosen(self, old, given):
        """The deployed stack's values, changed by what was given. `Name+` adds to a list."""
        self.given = given
        self._check_names(old, given)
        values = {name: value for name, value in old.items() if name in self.parameters}
        for name, value in given.items():
            values |= self._extended(values, name[:-1], value) if name.endswith("+") else {name: value}
        return {name: values[name] for name in self.parameters if name in values}

    def _extended(self, values, name, more):
        if self.parameters[name]["Type"] != "CommaDelimitedList":
            raise Problem(f"{name} is one value and no list, so nothing can be added to it. It is "
                          f'{values.get(name) or "empty"} now; write {name}= and the whole new value.')
        return {name: ",".join(dict.fromkeys([*items(values.get(name, "")), *items(more)]))}

    def _check_names(self, old, given):
        """A name that the template does not have is an error: CloudFormation would use a default without a word."""
        for name in (name.removesuffix("+") for name in given):
            if name not in self.parameters:
                [close] = difflib.get_close_matches(name, self.parameters, 1) or [None]
                raise Problem(f"There is no parameter {name}." + (f" Do you mean {close}?" if close else "")
                              + " docs/parameters.md lists them.")
        for name, value in old.items():
            if name not in self.parameters:
                print(f"The deployed stack has {name}={value}. This version no longer has that parameter.")

    def problem_with(self, name, value):
        """What CloudFormation would say of a value."""
        parameter = self.parameters[name]
        parts = [each.strip() for each in value.split(",")] if parameter["Type"] == "CommaDelimitedList" else [value]
        fits = all(re.search(parameter.get("AllowedPattern", ""), each, re.ASCII) for each in parts)
        allowed = [str(each) for each in parameter.get("AllowedValues", [value])]
        number = parameter["Type"] != "Number" or (
            re.fullmatch("[0-9]+", value)
            and parameter.get("MinValue", 0) <= int(value) <= parameter.get("MaxValue", int(value)))
        good = fits and value in allowed and number and len(value) <= parameter.get("MaxLength", len(value))
        return None if good else parameter.get("ConstraintDescription", "is not allowed")

    def check(self, values, region):
        """Refuse all that CloudFormation would refuse."""
        missing = [name for name in self.parameters if name not in {**self.defaults, **values}]
        if missing:
            example = self.command(**self.given, **dict.fromkeys(missing, "<…>"))
            raise Problem(f"These parameters have no value: {', '.join(missing)}. Give them:\n    {example}")
        wrong = [f'{name}="{value}" {problem}' for name, value in values.items()
                 if (problem := self.problem_with(name, value))]
        wrong = wrong or [*self._broken_rules({**self.defaults, **values, "AWS::Region": region})]
        if wrong:
            raise Problem("These values are not valid:\n    " + "\n    ".join(wrong))

    def _broken_rules(self, values):
        rules = [each for each in self.rules.values() if holds(each.get("RuleCondition", True), values)]
        yield from (each["AssertDescription"] for rule in rules for each in rule["Assertions"]
                    if not holds(each["Assert"], values))
        services, region = items(values["EndpointServiceIds"]), values["AWS::Region"]
        yield from (f"EndpointServiceIds names {each} twice." for each in repeated(services))
        if len(services) > MOST_SERVICES:
            yield (f"EndpointServiceIds has {len(services)} services, and a stack takes {MOST_SERVICES}. Deploy "
                   "another stack for the rest: make deploy STACK=<name>")
        for each in filter(is_public, items(values.get("DbtCidrs", ""))):
            yield (f"DbtCidrs has {each}, a public network. dbt's traffic over PrivateLink comes from private "
                   "addresses; the public ones on dbt's pages belong to its other connections. Ask dbt Support for the "
                   "internal networks.")
        expected = [each.split("=")[0] for each in items(values.get("ExpectedEndpoints", ""))]
        yield from (f"ExpectedEndpoints names {each} twice. Write its endpoints in one place: {each}=vpce-1+vpce-2"
                    for each in repeated(expected))
        yield from (f"ExpectedEndpoints names {each}, which is not in EndpointServiceIds."
                    for each in dict.fromkeys(expected) if each not in services)
        follow = values.get("FollowHostnames", "never")
        if follow != "never" and not items(values.get("FollowTargetGroups", "")):
            yield (f"FollowHostnames is {follow}, and FollowTargetGroups names no target group. Give the ARNs of those "
                   "whose targets follow their hostname.")
        for name in ("PagerTopicArn", "KmsKeyArn"):
            if values.get(name) and values[name].split(":")[3] != region:
                yield f"{name} must be in {region}, where the stack is: {values[name]}"


def is_public(text):
    """Whether a network holds public IPv4 addresses. Of a VPC's IPv6 addresses most are of public ranges."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False  # no network at all: the functions say so
    return network.version == 4 and not any(network.subnet_of(private) for private in PRIVATE)


def holds(node, values):
    """The value of a function in a rule:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-rules.html"""
    if not isinstance(node, dict):
        return node
    [(function, argument)] = node.items()
    if function == "Ref":
        return values[argument]
    given = [holds(each, values) for each in argument]
    functions = {"Fn::And": all, "Fn::Or": any, "Fn::Not": lambda one: not one[0],
                 "Fn::Equals": lambda two: two[0] == two[1], "Fn::Contains": lambda two: two[1] in two[0]}
    return functions[function](given)


# ---- what changes ----------------------------------------------------------------------------------------------------


def changes(old, new):
    """The parameters with another value than the deployed stack has, a line each."""
    for name, value in new.items():
        if name not in old:
            yield f"{name}: {value or '(empty)'}"
        elif value != old[name]:
            yield f"{name}: {old[name] or '(empty)'} -> {value or '(empty)'}"


def cautions(old, new, watched_by):
    """What people should know before they agree. `watched_by` has the stack of the other guard for a service."""
    def accounts(values):
        return {re.search(r"\d{12}", each)[0] for name in ("KnownAccounts", "DbtPrincipals")
                for each in items(values.get(name, ""))}
    def rejects(values):
        return values.get("UntrustedRequests") == "reject" and values.get("DryRun") == "false"
    if rejects(new) and not rejects(old):
        yield ("From now on the guard rejects the requests of every account that is not in KnownAccounts or "
               "DbtPrincipals, and revokes their established connections, which cuts them off at once.")
    elif new.get("UntrustedRequests") == "reject":
        when = "the guard revokes" if rejects(new) else "and once DryRun is false, the guard revokes"
        for account in sorted(accounts(old) - accounts(new)):
            yield (f"{account} is no longer in KnownAccounts or DbtPrincipals. With UntrustedRequests=reject {when} "
                   "its established connections, which cuts them off at once.")
    for service in items(new["EndpointServiceIds"]):
        if service in watched_by:
            yield (f"The stack {watched_by[service]} watches {service} already. Two guards send every alert twice, and "
                   "with different parameters one undoes what the other did. Take the service out of one of them.")


# What is lost with CloudWatch's alarms to the topic in this parameter.
ALARMS_LOST = {"AlertTopicArn": "the alarms that watch the guard itself, so nobody hears of it if the guard stops",
               "PagerTopicArn": "the alarms for the pager, so a critical alert pages nobody"}


def alarm_topics(values, region):
    """The existing topics that CloudWatch's alarms go to, by parameter: none in another Region."""
    topics = {name: values.get(name, "") for name in ALARMS_LOST}
    return {name: topic for name, topic in topics.items() if topic and topic.split(":")[3] == region}


def lost_alarms(values, keys):
    """A caution for each topic whose key keeps CloudWatch out. `keys` has the key that encrypts it, by parameter.

    The policy of AWS's own key allows no service, and cannot be changed.
    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
    """
    for name, key in keys.items():
        if key and re.search("(^|:)alias/aws/sns$", key):
            yield (f"{name}: {values[name]} is encrypted with AWS's own key alias/aws/sns, which CloudWatch cannot "
                   f"use. The guard's own messages can arrive, and these are lost without a word: {ALARMS_LOST[name]}. "
                   "dbt is not affected. Encrypt the topic with a customer managed key, or not at all: "
                   "docs/kms.md has the commands.")


# ---- roles of your own -----------------------------------------------------------------------------------------------

# What `privatelink-guard policy --role` calls the role in each parameter.
ROLES = {"ConnectionAcceptorRoleArn": "connection-acceptor", "HealthWatcherRoleArn": "health-watcher",
         "DriftWatcherRoleArn": "drift-watcher", "TargetFollowerRoleArn": "target-follower",
         "ScheduleRoleArn": "schedules", "AlarmOverRoleArn": "alarm-over", "ChatRoleArn": "chat"}


def check_roles(values, account):
    """A role of another account is refused here: AWS would refuse to pass it, after minutes."""
    foreign = {name: values[name] for name in ROLES if (values.get(name) or "::::").split(":")[4] not in ("", account)}
    if foreign:
        raise Problem(f"A role must be in account {account}, where the stack is:\n    "
                      + "\n    ".join(f"{name}={arn}" for name, arn in foreign.items()))


def own_roles(old, new, account, region, stack):
    """The caution that nobody but people keeps their own roles up to date, with the commands that print what is needed.

    The command asks AWS for the deployed stack's parameters; what is not deployed yet is in its flags.
    """
    # The chat channels' role needs no permissions.
    given = [name for name in ROLES if new.get(name) and name != "ChatRoleArn"]
    if not given:
        return
    changed = [shlex.quote(f"{name}={value}") for name, value in new.items()
               if value != old.get(name, "") and name not in ROLES]
    where = ["--stack", stack, "--region", region, *([] if old else ["--account", account])]
    more = " ".join([*where, *(word for each in changed for word in ("--set", each))])
    commands = "\n    ".join(f"privatelink-guard policy --role {ROLES[name]} {more}" for name in given)
    yield (f"The stack does not change your own roles ({', '.join(given)}). If one does not allow what this version "
           "needs with these parameters, the guard cannot do that part of its work. These print it:\n"
           f"    {commands}")


# ---- dbt's endpoints -------------------------------------------------------------------------------------------------

# The states of an endpoint that takes no room. The same as in shared/core/src/admission.rs.
NO_ROOM = ("pendingacceptance", "rejected", "failed", "expired", "deleting", "deleted")


def room(values, connections):
    """What the parameters mean for dbt's endpoints as EC2 lists them now, a line for each service."""
    dbt = {re.search(r"\d{12}", each)[0] for each in items(values["DbtPrincipals"])}
    expected = dict(each.split("=") for each in items(values.get("ExpectedEndpoints", "")))
    limit = int(values.get("MaxDbtEndpoints", "0"))
    for service in items(values["EndpointServiceIds"]):
        of_dbt = [each for each in connections if each["ServiceId"] == service and each.get("VpcEndpointOwner") in dbt]
        states = [(each["VpcEndpointId"], each["VpcEndpointState"].lower()) for each in of_dbt]
        connected = [endpoint for endpoint, state in states if state not in NO_ROOM]
        waiting = sum(state == "pendingacceptance" for _, state in states)
        now = f"{len(connected)} connected" + (f", {waiting} waiting" if waiting else "")
        named = expected[service].split("+") if service in expected else None
        once = "Once DryRun is false: " if values.get("DryRun") == "true" else ""
        yield f"{service}: {now}. {once}{meaning(service, connected, named, limit)}"


def meaning(service, connected, named, limit):
    """What the guard does about them. `named` are the expected endpoints, or None."""
    if named is not None:
        others = [each for each in connected if each not in named]
        return ("ExpectedEndpoints: the guard accepts only what it names." + (
            f" It does not name {', '.join(others)}, connected now: a warning will offer the command that cuts that "
            "off. If it is yours, name it now." if others else ""))
    if limit == 0:
        return "MaxDbtEndpoints=0: the guard accepts every endpoint of dbt's accounts, also other customers'."
    left = limit - len(connected)
    if left < 0:
        return (f"MaxDbtEndpoints allows {limit}: all {len(connected)} stay connected, and a warning says so. If all "
                f"are yours, name them: ExpectedEndpoints={service}={'+'.join(connected)}")
    if left == 0:
        return f"MaxDbtEndpoints allows {limit}: the guard holds further requests, and alerts you."
    which = "the oldest request" if left == 1 else f"the oldest {left} requests"
    return (f"MaxDbtEndpoints allows {limit}: the guard accepts {which} that it has not held before, whoever's it is, "
            "holds the others, and alerts you.")
