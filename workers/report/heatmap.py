"""A tree and its matrix as one drawing: near pairs are dark, and each cell says its number as well."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from workers.report.tree import Tree

_DRAWING = Markup(
    '<svg class="tree" role="img" aria-label="{words}" viewBox="0 0 {width} {height}" width="{width}"'
    ' height="{height}">{parts}</svg>'
)
_BRANCH = Markup('<polyline class="branch" points="{points}"/>')
_CELL = Markup('<rect x="{x:.1f}" y="{y:.1f}" width="{size}" height="{size}" fill="{fill}"/>')
_NUMBER = Markup('<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{text}</text>')
_NAME = Markup('<text class="name" x="{x:.1f}" y="{y:.1f}">{text}</text>')
_ABOVE = Markup('<text class="above" transform="translate({x:.1f} {y:.1f}) rotate(-60)">{text}</text>')

_TREE_WIDTH = 130
_LETTER_WIDTH = 6.6
_MAX_LETTERS = 24
#: Up to so many items a cell has room for its number.
_MAX_NUMBERED = 30
_LIGHT, _DARK = (0xF2, 0xF6, 0xFB), (0x12, 0x3F, 0x75)


def heatmap(tree: Tree, *, words: str) -> Markup:
    """Draw a tree to the left of its matrix.

    Args:
        tree: items in the order of its leaves
        words: what the drawing says, for those who do not see it
    """
    num_items = len(tree.items)
    size = 36 if num_items <= _MAX_NUMBERED else 14
    names = [_cut(name) for name in tree.items]
    name_width = _LETTER_WIDTH * max(map(len, names)) + 12
    left, top = _TREE_WIDTH + name_width, 0.87 * name_width + 14
    parts = [
        *_branches(tree, top=top, size=size),
        *_names(names, left=left, top=top, size=size),
        *_cells(tree, left=left, top=top, size=size),
    ]
    width = math.ceil(left + size * num_items + 0.5 * name_width)
    height = math.ceil(top + size * num_items + 4)
    return _DRAWING.format(words=words, width=width, height=height, parts=Markup("").join(parts))


def _branches(tree: Tree, *, top: float, size: int) -> list[Markup]:
    scale = (_TREE_WIDTH - 8) / (tree.height or 1.0)
    return [
        _BRANCH.format(
            points=" ".join(
                f"{_TREE_WIDTH - scale * height:.1f},{top + size * (place + 0.5):.1f}"
                for place, height in zip(across, heights, strict=True)
            )
        )
        for across, heights in tree.links
    ]


def _names(names: list[str], *, left: float, top: float, size: int) -> list[Markup]:
    beside = [
        _NAME.format(x=_TREE_WIDTH + 6, y=top + size * (place + 0.5) + 4, text=name)
        for place, name in enumerate(names)
    ]
    above = [
        _ABOVE.format(x=left + size * (place + 0.5), y=top - 6, text=name) for place, name in enumerate(names)
    ]
    return beside + above


def _cells(tree: Tree, *, left: float, top: float, size: int) -> list[Markup]:
    known = sorted(tree.distances[~(tree.distances != tree.distances)])
    highest, parts = known[-1] or 1.0, []
    for row in range(len(tree.items)):
        for column in range(len(tree.items)):
            distance = float(tree.distances[row, column])
            if row == column or math.isnan(distance):
                continue
            near = 1.0 - distance / highest
            x, y = left + size * column, top + size * row
            parts.append(_CELL.format(x=x, y=y, size=size, fill=shade(near)))
            if len(tree.items) <= _MAX_NUMBERED:
                kind = "on-dark" if is_dark(shade(near)) else "on-light"
                parts.append(
                    _NUMBER.format(kind=kind, x=x + size / 2, y=y + size / 2 + 4, text=_short(distance))
                )
    return parts


def shade(near: float) -> str:
    """The colour of a cell: 0 for the farthest pair, 1 for two that are one."""
    mixed = (round(light + near * (dark - light)) for light, dark in zip(_LIGHT, _DARK, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def is_dark(colour: str) -> bool:
    """Whether white ink stands out better than black, by the relative luminance of WCAG 2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.179


def _short(distance: float) -> str:
    return f"{distance:.3f}".removeprefix("0")


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_LETTERS else f"{name[: _MAX_LETTERS - 1]}…"
