"""Growth as a picture: panels of lines on logarithmic axes, as SVG."""
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 300, 56, 14, 44, 46
COLORS = {"guard": "#0b6e4f", "Python": "#b3541e"}
HALO = 'stroke="#fff" stroke-width="4" paint-order="stroke"'  # so that a line behind the text does not cross it
DASHES = {"": "none", "drift-watcher": "5 3"}


def svg(panels):
    """`panels`: [(title, x label, [(color's name, dash's name, label, [(x, y), ...]), ...]), ...]"""
    body = "".join(f'<g transform="translate({index * WIDTH} 0)">{_panel(*panel)}</g>'
                   for index, panel in enumerate(panels))
    size = f'width="{WIDTH * len(panels)}" height="{HEIGHT}" viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}"'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
            f'<rect width="100%" height="100%" fill="#fff"/>{body}</svg>\n')


def _panel(title, x_label, lines):
    points = [point for *_, line in lines for point in line]
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    low, high = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys) * 1.01))
    x_at = _scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    y_at = _scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{title}</text>',
             f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{x_label}</text>']
    for x in xs:
        parts.append(f'<text x="{x_at(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:,}</text>')
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = y_at(10 ** exponent)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10 ** exponent:,g}</text>')
    for color, dash, label, line in lines:
        parts.append(_line(COLORS[color], DASHES[dash], [(x_at(x), y_at(y)) for x, y in line]))
        x, y = x_at(line[0][0]), y_at(line[0][1])
        parts.append(f'<text x="{x + 5:.1f}" y="{y - 8:.1f}" fill="{COLORS[color]}" {HALO}>{label}</text>')
    return "".join(parts)


def _line(color, dash, points):
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points)
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>{dots}'


def _scale(low, high, start, end):
    span = math.log10(high / low)
    return lambda value: start + (end - start) * math.log10(value / low) / span
