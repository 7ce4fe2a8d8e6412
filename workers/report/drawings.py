"""Small drawings as inline SVG: bars, lines, trees. Each is given its words by whoever places it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

_BAR = Markup(
    '<svg class="bar {kind}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
    '<rect class="room" width="100" height="10"/><rect class="filled" width="{width:.1f}" height="10"/></svg>'
)
_LINE = Markup(
    '<svg class="line" viewBox="0 0 120 30" role="img" aria-label="{words}">'
    '<line class="limit" x1="0" x2="120" y1="{limit:.1f}" y2="{limit:.1f}"/>'
    '<polyline points="{points}"/>{dots}</svg>'
)
_DOT = Markup('<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>')


def bar(share: float, *, kind: str) -> Markup:
    """A share of 0 to 1 as a bar in its frame; the number stands beside it."""
    return _BAR.format(kind=kind, width=100 * min(max(share, 0.0), 1.0))


def line(values: Sequence[float], *, limit: float, words: str) -> Markup:
    """Values of 0 to 1 as a line over time, with the limit that they should keep.

    Args:
        values: from old to new
        limit: drawn as a dashed line
        words: what the line says
    """
    step = 112 / max(len(values) - 1, 1)
    places = [(4 + step * at, _height(value)) for at, value in enumerate(values)]
    dots = Markup("").join(_DOT.format(x=x, y=y) for x, y in places)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return _LINE.format(words=words, limit=_height(limit), points=points, dots=dots)


def _height(value: float) -> float:
    return 27 - 24 * min(max(value, 0.0), 1.0)
