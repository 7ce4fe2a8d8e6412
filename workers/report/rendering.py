"""A page becomes one HTML file: every text is escaped, everything that it needs is inside."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from workers.report.page import Page


def render(page: Page) -> str:
    """The page as HTML, with its style inside; it asks for nothing from anywhere."""
    return _environment().get_template("page.html").render(page=page)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("workers.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
