"""Every AWS CLI command that the project prints is one that AWS CLI 1 and 2 take.

AWS CLI 1 is installed here. A complete command goes through it up to the request, with made-up values for the
placeholders: service, operation, options, required options, the form of each value, and the query. Where a sentence
only names a command, or Rust puts it together, the names of the operation and its options are compared. Version 2 has
the same ones, but for what VERSION_2 says.
https://docs.aws.amazon.com/cli/latest/userguide/cliv2-migration-changes.html
"""
import contextlib
import functools
import io
import json
import re
import shlex

import pytest
from awscli.clidriver import CLIOperationCaller, create_clidriver
from awscli.customizations.cloudformation.deploy import DeployCommand
from botocore import xform_name
from botocore.session import get_session
from botocore.validate import ParamValidator
from rendering import ROOT, source

PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "infra/README.md",
                                  "local-aws/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "shared/core/runbook").glob("*.md"))
TEMPLATES = ["template.yaml", *sorted(f"infra/{path.name}" for path in (ROOT / "infra").glob("*.yaml"))]
RUST = sorted((ROOT / "shared/core/src").rglob("*.rs"))
# Operations that version 2 does not have. The operations that only version 2 has are unknown to version 1 anyway.
VERSION_2 = {("ecr", "get-login")}
NAME = re.compile(r"\baws ([a-z][a-z0-9-]+) ([a-z][a-z0-9-]+)")
# Long enough for the shortest ARN that a service takes.
VALUE, NUMBER = "arn:aws:example:eu-central-1:111122223333:made-up", "1"


@functools.cache
def cli():
    return create_clidriver()


@functools.cache
def options(service, operation):
    """The options of an operation: name to argument."""
    services = cli()._get_command_table()
    assert service in services, f"AWS CLI 1 has no service {service}"
    command = services[service]
    for name in operation.split():  # `wait` has a command for each waiter.
        operations = getattr(command, "subcommand_table", None) or command._get_command_table()
        assert name in operations, f"AWS CLI 1 has no {service} {operation}"
        command = operations[name]
    assert (service, operation) not in VERSION_2, f"AWS CLI 2 has no {service} {operation}"
    return command.arg_table


@functools.cache
def model(service):
    return get_session().get_service_model(service)


def check_names(service, operation, given):
    """The options' names, in full: argparse also takes abbreviations, which stop working with the next new option."""
    known = set(options(service, operation)) | set(cli()._get_argument_table())
    unknown = [name for name in given if name not in known]
    assert not unknown, f"aws {service} {operation} has no --{', --'.join(unknown)}"


# ---- complete commands


def filled(text):
    """The text with values instead of <placeholder>, ${Resource} and shell arithmetic."""
    text = re.sub(r"\$\(\((?:[^()]|\([^()]*\)|\((?:[^()]|\([^()]*\))*\))*\)\)\d*", NUMBER, text)
    text = re.sub(r"\$\{[^}]+\}", VALUE, text)
    return re.sub(r"<[^<>\n]+>", lambda match: NUMBER if re.search("port|number", match[0]) else VALUE, text)


def commands(text):
    """The AWS CLI commands in shell code: lists of words."""
    for line in filled(text.replace("\\\n", " ")).splitlines():
        if not NAME.search(line):
            continue
        words = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        words.whitespace_split, words.commenters = True, ""
        command = None
        for word in [*words, ";"]:
            if re.fullmatch("[;&|]+", word):
                if command:
                    yield command
                command = None
            elif command is not None:
                command.append(word)
            elif word == "aws":
                command = [word]


def repeated(service, waiter, *arguments):
    """The operation that a waiter repeats, with the same options."""
    check_names(service, f"wait {waiter}", [word[2:] for word in arguments if word.startswith("--")])
    waiters = get_session().get_waiter_model(service)
    [name] = [name for name in waiters.waiter_names if xform_name(name, "-") == waiter]
    return [xform_name(waiters.get_waiter(name).operation, "-"), *arguments]


class Requests:
    """Instead of sending requests, checks their parameters."""

    def __init__(self, monkeypatch):
        self.sent = []
        monkeypatch.setattr(CLIOperationCaller, "invoke", self.invoke)
        monkeypatch.setattr(DeployCommand, "_run_main", lambda *_: self.sent.append("cloudformation deploy") or 0)

    def invoke(self, service, operation, parameters, _):
        report = ParamValidator().validate(parameters, model(service).operation_model(operation).input_shape)
        assert not report.has_errors(), report.generate_report()
        self.sent.append(operation)
        return 0


@pytest.fixture
def run(monkeypatch, tmp_path):
    requests = Requests(monkeypatch)
    monkeypatch.chdir(tmp_path)

    def run(command):
        _, service, operation, *arguments = command
        if operation == "wait":
            operation, *arguments = repeated(service, *arguments)
            command = ["aws", service, operation, *arguments]
        check_names(service, operation, [word[2:].split("=")[0] for word in arguments if word.startswith("--")])
        for word in arguments:
            if re.match("fileb?://", word) and not word.endswith(":///dev/stdin"):
                (tmp_path / word.split("://")[1]).write_text("{}")
            if word == "--payload":
                # Version 2 wants other values in Base64.
                assert arguments[arguments.index(word) + 1].startswith("fileb://"), command
        errors, before = io.StringIO(), len(requests.sent)
        with contextlib.redirect_stderr(errors), contextlib.suppress(SystemExit):
            cli().main(command[1:])
        assert len(requests.sent) == before + 1, f"{shlex.join(command)}\n{errors.getvalue()}"
    return run


def blocks(page):
    """The code blocks of a page, fenced or indented, without the text around them."""
    text = page.read_text(encoding="utf-8")
    fenced = r"(?ms)^ *```\w*\n(.*?)^ *```"
    yield from (match[1] for match in re.finditer(fenced, text))
    lines = re.sub(fenced, "", text).replace("\\\n", "\\\\ ").splitlines()
    yield from (line.replace("\\\\ ", " ") for line in lines if line.startswith("    "))


def mentions(page):
    """Inline code."""
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text(encoding="utf-8"))
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text) if NAME.match(code)]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_in_a_page(page, run):
    found = [command for block in blocks(page) for command in commands(block)]
    named = sum(len(NAME.findall(block)) for block in blocks(page))
    # A command that is not found would not be checked.
    assert len(found) == named
    for command in found:
        run(command)
    for mention in mentions(page):
        check_mention(mention)


@pytest.mark.parametrize("path", sorted((ROOT / "docs/examples").glob("*.json")), ids=name_of)
def test_the_commands_in_an_example(path, run):
    for transition in json.loads(path.read_text(encoding="utf-8"))["transitions"]:
        for command in commands(transition["remedy"]["command"] or ""):
            run(command)


# ---- templates: outputs are complete commands, descriptions are sentences


def texts(node):
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from texts(child)


def check_mention(text):
    for match in NAME.finditer(text):
        # Up to the end of the parenthesis, of the sentence, or to the next command.
        rest = re.split(r"\)|\. |\.$|\baws ", text[match.end():])[0]
        check_names(*match.groups(), re.findall(r"(?<!\S)--([a-z0-9-]+)", rest))


@pytest.mark.parametrize("path", TEMPLATES)
def test_the_commands_in_a_templates_outputs(path, run):
    for name, output in source(path).get("Outputs", {}).items():
        for text in texts(output["Value"]):
            found = list(commands(text))
            assert len(found) == len(NAME.findall(text)), name
            for command in found:
                run(command)


@pytest.mark.parametrize("path", TEMPLATES)
def test_the_commands_in_a_templates_descriptions(path, run):
    for text in texts({**source(path), "Outputs": [each["Description"] for each in source(path).get(
            "Outputs", {}).values()]}):
        if NAME.search(text) and "def handler" not in text:
            check_mention(filled(text))
            for complete in re.findall(r"\((aws [^()]+)\)", filled(text)):
                for command in commands(complete):
                    run(command)


# ---- commands that Rust puts together


def balanced(text, start):
    """The end of the parenthesis that opens at `start`. Strings may hold parentheses of their own."""
    depth, inside = 0, False
    for position in range(start, len(text)):
        character = text[position]
        if character == '"' and text[position - 1] != "\\":
            inside = not inside
        if not inside:
            depth += {"(": 1, ")": -1}.get(character, 0)
            if depth == 0:
                return position + 1
    raise AssertionError("a parenthesis is not closed")


def strings(code, argument):
    """The string that an argument is, or those that the variable may be."""
    argument = argument.strip().removeprefix("&").removeprefix("format!(")
    if argument.startswith('"'):
        return [re.match(r'(?s)"((?:[^"\\]|\\.)*)"', argument)[1]]
    [choice] = re.findall(rf"let {argument} = (.+?);", code, re.S) if argument.isidentifier() else [argument]
    # The branches of a condition, or else the form of a text.
    found = re.findall(r'\{\s*"([^"]+)"\s*\}', choice) or re.findall(r'"([^"]+)"', choice)[:1]
    assert found, f"what is {argument}?"
    return found


def operations(code, argument):
    """The operation that the argument is, or, if it is a variable, those that the file names."""
    if argument.startswith('"'):
        return [argument.strip('"').split(maxsplit=1)]
    named = re.findall(r'(?<!Command::new\()"([a-z0-9]+ [a-z0-9-]+)"', code.split("#[cfg(test)]")[0])
    return [name.split() for name in named if name.split()[0] in cli()._get_command_table()]


def built(code):
    """What a file's chains of calls build: (operations, sets of names of which one is given, the calls' positions)."""
    for start in re.finditer(r'Command::new\(\s*("[a-z0-9-]+(?: [a-z0-9-]+)+"|[a-z_]+),', code):
        position, given, calls = balanced(code, start.start() + len("Command::new")), [], set()
        while call := re.match(r"\s*\.(\w+)\(", code[position:]):
            open_at = position + call.end() - 1
            end = balanced(code, open_at)
            if call[1] in ("option", "options", "option_of", "literal"):
                calls.add(position + call.start(1))
                inner = code[open_at + 1:end - 1]
                names = strings(code, inner if call[1] == "literal" else re.split(r",(?![^(]*\))", inner)[0])
                if call[1] == "literal" and len(names) == 1:
                    given += [{name} for name in re.findall(r"(?<!\S)--([a-z0-9-]+)", names[0])]
                else:
                    given.append({name.removeprefix("--") for name in names})
            position = end
        yield operations(code, start[1]), given, calls


@pytest.mark.parametrize("path", [path for path in RUST if "Command::new(" in path.read_text(encoding="utf-8")],
                         ids=name_of)
def test_the_commands_that_rust_builds(path):
    code = path.read_text(encoding="utf-8")
    checked = set()
    for found, given, calls in built(code):
        assert found
        checked |= calls
        for service, operation in found:
            for names in given:
                check_names(service, operation, names)
            required = {name for name, argument in options(service, operation).items() if argument.required}
            assert required <= set().union(*given), f"aws {service} {operation} needs more options"
    if path.name != "command.rs":
        every = {match.start(1) for match in re.finditer(r"\.(option|options|option_of|literal)\(", code)}
        assert every == checked, "calls that belong to no Command::new, so they are not checked"


def test_most_commands_are_found():
    in_rust = {" ".join(operation) for path in RUST for found, _, _ in built(path.read_text(encoding="utf-8"))
               for operation in found}
    assert {"ec2 create-network-acl-entry", "ec2 modify-vpc-endpoint-service-permissions"} <= in_rust
    assert sum(len(list(commands(block))) for page in PAGES for block in blocks(page)) > 150


# ---- the checks find mistakes


@pytest.mark.parametrize("text, problem", [
    ("aws logs tail /privatelink-guard/a/b", "no logs tail"), ("aws ec2 describe-endpoints", "no ec2 describe-endp"),
    ("aws pipeline list", "no service pipeline"), ("aws ec2 describe-subnets --subnet-id <id>", "has no --subnet-id"),
    ("aws ec2 accept-vpc-endpoint-connections --service-id <id>", "required: --vpc-endpoint-ids"),
    ("aws ec2 describe-subnets --filters Name=vpc-id,Value=<id>", "Value"),
    ("aws ec2 describe-subnets --query 'Subnets[", "No closing quotation"),
    ("aws ec2 describe-subnets --query 'Subnets['", "query"),
    ("aws lambda invoke --function-name <name> --payload '{}' out.json", "payload"),
])
def test_a_wrong_command_is_found(text, problem, run):
    with pytest.raises((AssertionError, ValueError), match=re.escape(problem)):
        [run(command) for command in commands(text)]


def test_a_wrong_command_in_a_sentence_or_in_rust_is_found():
    with pytest.raises(AssertionError, match="has no --tail"):
        check_mention("To do: read the log (aws logs filter-log-events --log-group-name NAME --tail), then wait.")
    [([operation], given, _)] = built('Command::new("ec2 describe-subnets", region)\n.options("subnet-id", ids)')
    with pytest.raises(AssertionError, match="has no --subnet-id"):
        check_names(*operation, given[0])
