"""`make pictures`: the documents' pictures, docs/images, from what the code prints.

What a terminal shows is drawn as SVG, byte for byte the same everywhere. Alerts and the page of `check --html` are
photographed in the headless browser, differently on each machine: the manifest says which page each picture shows.
"""
import hashlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile

import terminal_svg

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
IMAGES = ROOT / "docs/images"
MANIFEST = IMAGES / "manifest.json"
RECORDING = IMAGES / "demo.txt"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TOOLS = ROOT / ".tools/browser"
TIMEOUT = 600  # seconds: ends what hangs
SCHEMES = ("light", "dark")

# The pages, and the width at which each is photographed: documents show it at that width or smaller.
PHOTOGRAPHED = {"alert-in-chat": 600, "alert-by-email": 375, "check-page": 1280}
# What was printed: the command that prints it, and the width of the terminal in columns.
DRAWN = {
    "check": ("privatelink-guard check --stack privatelink-guard", 96),
    "status": ("privatelink-guard status --stack privatelink-guard", 96),
    "demo": ("make demo", 118),
}


def drawings(printed):
    """The SVG files by name; `printed` is the folder with what the code printed."""
    texts = {name: (printed / f"{name}.txt").read_text(encoding="utf-8") for name in DRAWN if name != "demo"}
    texts["demo"] = RECORDING.read_text(encoding="utf-8")
    return {f"{name}-{scheme}.svg": terminal_svg.drawing(*DRAWN[name], text, scheme, moving=name == "demo")
            for name, text in texts.items() for scheme in SCHEMES}


# ---- photographing pages ---------------------------------------------------------------------------------------------


def browser():
    """Chromium from .tools, which is for Linux on x86_64; elsewhere the machine's own, or None."""
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return TOOLS / "chromium/chromium"
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def node(script, *arguments):
    """What a script prints that starts a browser of its own."""
    run = subprocess.run([TOOLS / "node/bin/node", HERE / script, TOOLS, browser(), *arguments],
                         capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert run.returncode == 0, f"{script}: {run.stderr}"
    return json.loads(run.stdout)


def photograph(printed, names):
    """Takes pictures, and those that fail once more: on a busy machine Chromium sometimes takes none."""
    missing = dict.fromkeys(names)
    for _ in range(2):
        if missing:
            missing = node("portray.mjs", printed, IMAGES, *(f"{name}:{PHOTOGRAPHED[name]}" for name in missing))
    assert not missing, f"no picture, in two browsers: {missing}"


def manifest(printed):
    """Which page each picture shows, and how wide."""
    pages = {name: (printed / f"{name}.html").read_bytes() for name in PHOTOGRAPHED}
    return {name: hashlib.sha256(b"%d\n" % PHOTOGRAPHED[name] + page).hexdigest() for name, page in pages.items()}


def is_taken(name):
    return all((IMAGES / f"{name}-{scheme}.webp").exists() for scheme in SCHEMES)


# ---- the whole -------------------------------------------------------------------------------------------------------


def print_everything(folder):
    """Writes what the code prints for the pictures into the folder."""
    for program in ("inbox", "examples/pages"):
        subprocess.run([TARGET / "debug" / program, folder], check=True, stdout=subprocess.DEVNULL)


def main():
    with tempfile.TemporaryDirectory() as folder:
        printed = pathlib.Path(folder)
        print_everything(printed)
        for name, svg in drawings(printed).items():
            (IMAGES / name).write_text(svg, encoding="utf-8")
        shown = json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.exists() else {}
        now = manifest(printed)
        changed = [name for name in PHOTOGRAPHED if shown.get(name) != now[name] or not is_taken(name)]
        photograph(printed, changed)
        MANIFEST.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")
    kilobytes = sum(picture.stat().st_size for picture in IMAGES.iterdir()) // 1000
    print(f"The pictures are in {IMAGES.relative_to(ROOT)}, {kilobytes} kB. Taken anew: {', '.join(changed) or '-'}")


if __name__ == "__main__":
    main()
