"""The demo's items and the phrases that answers are made of, all written for this project.

One TOML file an item goes in, `DemoItem` comes out. Knows nothing of how answers are put together.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from workers.demo.corpus_rubric import DemoItem, Element, RubricTrait, phrases

_ITEM_FILES = (
    "puddle",
    "laundry",
    "cupboard",
    "discount",
    "lantern",
    "canal",
    "spinner",
    "ramp",
    "eis",
    "stadt",
)


@cache
def demo_items() -> tuple[DemoItem, ...]:
    """The items of the demo, in the order in which students meet them."""
    return tuple(_item(_read(name)) for name in _ITEM_FILES)


@cache
def spellings_by_ear() -> dict[str, dict[str, tuple[str, ...]]]:
    """Language -> word -> what children write for it."""
    return {
        language: {word: tuple(spellings) for word, spellings in words.items()}
        for language, words in _read("by_ear").items()
    }


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def _item(table: dict[str, Any]) -> DemoItem:
    return DemoItem(
        item_id=table["item_id"],
        language=table["language"],
        prompt=table["prompt"],
        rubric=table["rubric"],
        traits=tuple(_trait(trait) for trait in table["traits"]),
        wrong=phrases(table["wrong"]),
    )


def _trait(table: dict[str, Any]) -> RubricTrait:
    elements = tuple(
        Element(element["name"], phrases(element["shown"]), phrases(element["short"]), element["ease"])
        for element in table["elements"]
    )
    return RubricTrait(table["name"], tuple(table["labels"]), elements)
