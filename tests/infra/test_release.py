"""A release: its version, its build, the workflows, and the Terraform module that deploys it."""
import re
import subprocess
import sys
import textwrap

import hcl2
import pytest
import yaml
from infra_support import INFRA, ROOT, TOOLS, load

sys.path.insert(0, str(INFRA))

import release

TEMPLATE = load(ROOT / "template.yaml")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


# ---- the version -----------------------------------------------------------------------------------------------------


def test_the_version_has_a_section_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [each for each in re.split(r"^## ", changelog, flags=re.MULTILINE) if each.startswith(release.version())]


# ---- the build -------------------------------------------------------------------------------------------------------


def test_what_goes_to_aws_is_built_with_the_same_flags_everywhere():
    """One variable, for `sam build`, the benchmark and the release."""
    assert len(re.findall(r"cargo-lambda$", MAKEFILE, re.MULTILINE)) == 1
    assert len(re.findall(r"lambda build", MAKEFILE)) == len(re.findall(r"\$\(CARGO_LAMBDA\) lambda build", MAKEFILE))


def test_a_panic_is_printed_before_the_process_ends(tmp_path):
    """With the profile's setting and the release's flag. Nothing but the log says why a function ended."""
    profile = re.search(r"\[profile\.lambda\]\n(.*?)(?=\n\[|\Z)", (ROOT / "Cargo.toml").read_text(), re.DOTALL)[1]
    panic = re.search(r'^panic = "(\w+)"$', profile, re.MULTILINE)[1]
    flag = re.search(r"^LAMBDA_FLAGS := (-C \S+)", MAKEFILE, re.MULTILINE)[1]
    (tmp_path / "main.rs").write_text('fn main() { panic!("the table has no item {}", 7) }\n')
    subprocess.run(["rustc", "-C", f"panic={panic}", *flag.split(), "-C", "strip=symbols", "main.rs"], cwd=tmp_path,
                   check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=False)
    assert done.returncode == -6  # aborted
    assert "panicked at main.rs:1:" in done.stderr
    assert "the table has no item 7" in done.stderr


# ---- the workflows ---------------------------------------------------------------------------------------------------

# Of each: what its job may write, and the targets that it makes.
WORKFLOWS = {
    "release": ({"contents": "write", "id-token": "write", "attestations": "write"}, {"test", "release"}),
    "test": ({"contents": "read"}, {"test"})}
each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def workflow(name):
    return ROOT / f".github/workflows/{name}.yml"


@pytest.mark.skipif(not (TOOLS / "zizmor").exists(), reason="zizmor needs Python 3.11")
@each_workflow
def test_the_workflow_passes_the_linter(name):
    done = subprocess.run([TOOLS / "zizmor", "--offline", "--quiet", workflow(name)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each_workflow
def test_the_workflow_pins_actions_and_takes_few_permissions(name):
    text, (permissions, expected) = workflow(name).read_text(encoding="utf-8"), WORKFLOWS[name]
    for used in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", used), used
    parsed = yaml.safe_load(text)
    assert parsed["permissions"] == {}
    assert parsed["jobs"][name]["permissions"] == permissions
    targets = set(re.findall(r"^ +run: make ([a-z]+)", text, re.MULTILINE))
    assert targets == expected
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in targets)


def test_every_push_is_tested_and_every_workflow_is_checked_here():
    # YAML reads the key `on` as true.
    assert set(yaml.safe_load(workflow("test").read_text(encoding="utf-8"))[True]) == {"push", "pull_request"}
    assert {path.stem for path in (ROOT / ".github/workflows").iterdir()} == set(WORKFLOWS)


# ---- Terraform -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def module():
    """Every block of the module, by type."""
    blocks = {}
    for path in sorted((INFRA / "terraform").glob("*.tf")):
        for kind, found in hcl2.loads(path.read_text(encoding="utf-8")).items():
            blocks.setdefault(kind, []).extend(found if isinstance(found, list) else [found])
    return blocks


def text(value):
    """A literal, without the quotes that the parser keeps."""
    return value.strip('"') if isinstance(value, str) else value


def test_the_module_creates_the_stack_and_only_that(module):
    [resource] = module["resource"]
    [(kind, named)] = resource.items()
    assert text(kind) == "aws_cloudformation_stack"
    [stack] = named.values()
    assert [text(each) for each in stack["capabilities"]] == capabilities()
    assert {name for name in stack if not name.startswith("__")} == {
        "name", "template_url", "parameters", "tags", "capabilities", "on_failure"}


def capabilities():
    """What `make deploy` acknowledges."""
    source = (INFRA / "deploy.py").read_text(encoding="utf-8")
    return re.findall(r'"(CAPABILITY_\w+)"', source)


def test_the_module_requires_what_the_template_requires(module):
    variables = {text(name): body for each in module["variable"] for name, body in each.items()}
    assert set(variables) == {"name", "template_url", "parameters", "tags"}
    source = (INFRA / "terraform/variables.tf").read_text(encoding="utf-8")
    required = [name for name, each in TEMPLATE["Parameters"].items() if "Default" not in each]
    assert re.search(r"for name in \[(.*?)\]", source)[1] == ", ".join(f'"{name}"' for name in required)


def test_the_readme_of_the_module_uses_its_variables_and_existing_parameters():
    readme = (INFRA / "terraform/README.md").read_text(encoding="utf-8")
    example = re.search(r'module "privatelink_guard" \{.*?\n       \}', readme, re.DOTALL)[0]
    assert set(re.findall(r"^ +([A-Z]\w+) += ", example, re.MULTILINE)) <= set(TEMPLATE["Parameters"])
    hcl2.loads(textwrap.dedent(f"       {example}") + "\n")
