"""What a terminal shows, as SVG: sharp at every size, and byte for byte the same on every machine."""
import html
import re

CHARACTER, LINE, MARGIN = 8.4, 18, 18  # pixels, for a font of 14 pixels
# GitHub's colours, which have enough contrast on its two backgrounds.
PALETTES = {
    "light": {"back": "#ffffff", "edge": "#d0d7de", "text": "#1f2328", "31": "#cf222e", "32": "#116329",
              "33": "#7d4e00", "36": "#1b7c83"},
    "dark": {"back": "#0d1117", "edge": "#3d444d", "text": "#e6edf3", "31": "#ff7b72", "32": "#3fb950",
             "33": "#d29922", "36": "#39c5cf"},
}
STYLES = {"1": "font-weight:bold", "2": "fill-opacity:.7"}


def wrapped(line, columns):
    """A line as a terminal breaks it: at the last column, wherever that is. Colours have no width."""
    rows, width = [""], 0
    for part in re.findall(r"\x1b\[[\d;]*m|[^\x1b]", line):
        if not part.startswith("\x1b"):
            if width == columns:
                rows, width = [*rows, ""], 0
            width += 1
        rows[-1] += part
    return rows


def spans(row, palette, styles):
    """The parts of a row, each in its place whatever font the reader has. `styles` are those in force before it."""
    column, drawn = 0, []
    for codes, text in re.findall(r"(?:\x1b\[([\d;]*)m)?([^\x1b]*)", row):
        for code in filter(None, codes.split(";")):
            if code == "0":
                styles.clear()
            else:
                styles.append(f"fill:{palette[code]}" if code in palette else STYLES[code])
        shown = text.strip()
        if shown:
            at = column + text.index(shown[0])
            style = f' style="{";".join(styles)}"' if styles else ""
            drawn.append(f'<tspan x="{MARGIN + at * CHARACTER:.1f}" textLength="{len(shown) * CHARACTER:.1f}"{style}>'
                         f"{html.escape(shown)}</tspan>")
        column += len(text)
    return "".join(drawn)


def moments(lines):
    """When each line of the demo appears, in seconds: as fast as it was printed, with time to read between chapters."""
    moment, clock = 0.0, None
    for line in lines:
        printed = re.match(r" *(\d+\.\d) s  ", line)
        if line.startswith("== "):
            moment, clock = moment + 1.5, None
        elif printed:
            moment += float(printed[1]) - clock if clock is not None else 1
            clock = float(printed[1])
        yield round(moment, 1)


def animation(appears):
    """Rules that show each line from its moment on, again and again; for readers who want no motion, always."""
    last = appears[-1] + 8
    rules = "".join(f"@keyframes l{number}{{0%{{visibility:hidden}}{100 * moment / last:.2f}%{{visibility:visible}}}}"
                    f".l{number}{{animation:l{number} {last:.1f}s step-end infinite}}"
                    for number, moment in enumerate(appears))
    return f"@media (prefers-reduced-motion:no-preference){{{rules}}}"


def drawing(command, columns, text, scheme, *, moving):
    """A terminal of this width with a command and what it printed; if it is moving, at the pace of the demo."""
    palette = PALETTES[scheme]
    lines = [f"$ {command}", "", *text.rstrip("\n").split("\n")]
    appears = list(moments(lines)) if moving else []
    rows, styles = [], []
    for number, line in enumerate(lines):
        for row in wrapped(line, columns):
            baseline = MARGIN + LINE * len(rows) + 14
            name = f' class="l{number}"' if moving else ""
            rows.append(f'<text y="{baseline}"{name}>{spans(row, palette, styles)}</text>')
    width, height = round(2 * MARGIN + columns * CHARACTER), 2 * MARGIN + LINE * len(rows)
    rules = "text{white-space:pre;font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;" \
            f"fill:{palette['text']}}}{animation(appears) if moving else ''}"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'xml:space="preserve">',
        f"<style>{rules}</style>",
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="{palette["back"]}" '
        f'stroke="{palette["edge"]}"/>',
        *rows, "</svg>", ""])
