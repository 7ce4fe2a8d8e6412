"""The tree and its drawing: near items stand side by side, and every pair can be read without colour."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.report.heatmap import heatmap, is_dark, shade
from workers.report.tree import grow

NEAR, FAR = 0.02, 0.3
FAMILIES = [("a1", "b1"), ("a2", "b2"), ("a3", "b3")]


def family_distances() -> dict[tuple[str, str], float]:
    names = sorted(name for family in FAMILIES for name in family)
    return {
        (first, second): NEAR if (first, second) in FAMILIES else FAR
        for at, first in enumerate(names)
        for second in names[at + 1 :]
    }


def test_what_is_near_stands_side_by_side() -> None:
    tree = grow(family_distances())
    assert tree is not None
    for first, second in FAMILIES:
        assert abs(tree.items.index(first) - tree.items.index(second)) == 1
    assert tree.height == pytest.approx(FAR)
    assert len(tree.links) == 5


@given(st.integers(0, 2**32 - 1), st.integers(1, 35))
def test_every_item_is_a_leaf_once_and_missing_pairs_stay_missing(seed: int, num_pairs: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.permutation([(first, second) for first in "abcdef" for second in "ghijkl"])[:num_pairs]
    distances = {(str(first), str(second)): float(rng.random()) for first, second in pairs}
    tree = grow(distances)
    assert tree is not None
    names = {name for pair in distances for name in pair}
    assert sorted(tree.items) == sorted(names)
    for row, first in enumerate(tree.items):
        for column, second in enumerate(tree.items):
            known = distances.get((first, second), distances.get((second, first)))
            found = float(tree.distances[row, column])
            assert found == (0.0 if first == second else known) or (known is None and math.isnan(found))
    leaves = {place for across, heights in tree.links for place, height in zip(across, heights, strict=True)}
    assert {float(place) for place in range(len(names))} <= leaves
    assert str(heatmap(tree, words="w")).count("<rect") == 2 * len(distances)


def test_no_pair_no_tree() -> None:
    assert grow({}) is None


def test_each_cell_says_its_number_and_names_are_escaped() -> None:
    tree = grow({("<b>", "x" * 80): 0.1234, ("<b>", "c"): 0.2, ("c", "x" * 80): 0.2})
    assert tree is not None
    drawing = str(heatmap(tree, words='say "this"'))
    assert drawing.count(">.123<") == 2
    assert "<b>" not in drawing
    assert "&lt;b&gt;" in drawing
    assert 'aria-label="say &#34;this&#34;"' in drawing
    assert "x" * 25 not in drawing


def test_numbers_can_be_read_on_their_ground() -> None:
    """The contrast of WCAG 2, at least 4.5, for every shade."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    def contrast(first: str, second: str) -> float:
        low, high = sorted((luminance(first), luminance(second)))
        return (high + 0.05) / (low + 0.05)

    for step in range(101):
        near = step / 100
        ink = "#ffffff" if is_dark(shade(near)) else "#000000"
        assert re.fullmatch("#[0-9a-f]{6}", shade(near))
        assert contrast(ink, shade(near)) >= 4.5, near
