"""What a release has besides the files of artifacts.py, so that it can be checked:

    privatelink-guard-x86_64      the command
    *.cdx.json                    a software bill of materials for each binary (CycloneDX)
    THIRD-PARTY-LICENCES.txt      the licences of what is compiled in

`make release` writes everything to dist/:

    release.py check              before the build: is this a commit?
    release.py complete dist ARCHITECTURE [...]     after it

The same commit gives the same bytes: nothing here has a time, a random number or a path of the machine.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import artifacts

ROOT = artifacts.ROOT
COMMAND = "privatelink-guard"
TARGETS = {"x86_64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}


def run(*command, **environment):
    tools = os.pathsep.join([str(ROOT / ".tools/cargo/bin"), os.environ["PATH"]])
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": tools, **environment}, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        sys.exit(f"make release: {' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def version():
    return re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]


def check():
    """A release is a commit: otherwise nobody could build it again."""
    changed = run("git", "status", "--porcelain")
    if changed:
        sys.exit(f"make release: these files are not committed, so nobody could build this again:\n{changed}")
    if f"## {version()}" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        sys.exit(f"make release: CHANGELOG.md has no section for {version()}, which Cargo.toml names.")


def bills_of_materials(folder, architecture):
    """One for each binary. cargo-cyclonedx writes them beside the manifests, with the path of this folder in them."""
    run("cargo", "cyclonedx", "--format", "json", "--spec-version", "1.5", "--describe", "binaries", "--target",
        TARGETS[architecture], SOURCE_DATE_EPOCH="315532800")
    for written in sorted(ROOT.glob("*/**/*_bin.cdx.json")):
        name = written.name.removesuffix("_bin.cdx.json")
        if name in (*artifacts.FUNCTIONS, COMMAND):
            text = written.read_text(encoding="utf-8").replace(f"file://{ROOT}/", "file:///")
            (folder / f"{name}-{architecture}.cdx.json").write_text(text, encoding="utf-8")
        written.unlink()


def licences(folder):
    text = run("cargo", "about", "generate", "--offline", "--workspace", "infra/licences.hbs")
    (folder / "THIRD-PARTY-LICENCES.txt").write_text(text, encoding="utf-8")


def complete(folder, *architectures):
    folder = pathlib.Path(folder)
    for architecture in architectures:
        shutil.copy(ROOT / f"target/lambda/{COMMAND}-{architecture}", folder)  # with the permission to execute it
        bills_of_materials(folder, architecture)
    licences(folder)
    artifacts.write_sums(folder)
    print((folder / artifacts.SUMS).read_text(encoding="utf-8"))


if __name__ == "__main__":
    {"check": check, "complete": complete}[sys.argv[1]](*sys.argv[2:])
