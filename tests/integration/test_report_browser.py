"""The page in a real browser, on a desk, on a phone and in print: nothing runs over, nothing is fetched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from typing import TYPE_CHECKING

import pytest

from db.session import make_engine
from scoring.evaluation.policy import read_policy
from tests import graded, merges_on_show
from workers.report.morning import morning_page
from workers.report.rendering import render

if TYPE_CHECKING:
    from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: Looks at the page from inside; without scripts of its own, the page needs one put in for the test.
PROBE = """
<script>
addEventListener('load', () => {
  const all = [...document.querySelectorAll('body *')];
  const outside = all.filter(one => !one.closest('.scroll, .skip, details'));
  const told = {
    width: innerWidth,
    page: document.documentElement.scrollWidth,
    over: outside.filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML),
    fetched: performance.getEntriesByType('resource').map(one => one.name),
    small: [...document.querySelectorAll('main p, td, th')]
      .filter(one => parseFloat(getComputedStyle(one).fontSize) < 12).length,
  };
  parent.postMessage(JSON.stringify(told), '*');
});
</script>
"""
#: A window is never as narrow as a phone; a frame can be.
FRAME = """
<!DOCTYPE html><title>frame</title><script>
addEventListener('message', event => {{ document.body.dataset.told = event.data; }});
</script><body><iframe src="probed.html" width="{width}" height="{height}" style="border: 0"></iframe></body>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture
def page(database_url: str, tmp_path: Path) -> Path:
    database = make_engine(database_url)
    with database.begin() as connection:
        graded.score_a_night(connection)
        merges_on_show.place(connection, ["puddle", "ramp", *(f"a-rather-long-item-{n}" for n in range(25))])
    path = tmp_path / "page.html"
    path.write_text(render(morning_page(database, read_policy())), encoding="utf-8")
    database.dispose()
    return path


def run(browser: str, folder: Path, *options: str) -> str:
    command = [
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        f"--user-data-dir={folder / 'profile'}",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def framed(page: Path, *, width: int, height: int) -> Path:
    """A copy that may run the probe, and that nothing keeps from fetching, in a frame of this size."""
    html = page.read_text(encoding="utf-8")
    opened, num_replaced = re.subn(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", PROBE, html)
    assert num_replaced == 1
    page.with_name("probed.html").write_text(opened, encoding="utf-8")
    path = page.with_name("frame.html")
    path.write_text(FRAME.format(width=width, height=height), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)], ids=["phone", "desk"])
def test_nothing_runs_over_and_nothing_is_fetched(browser: str, page: Path, width: int, height: int) -> None:
    frame = framed(page, width=width, height=height)
    dom = run(browser, page.parent, "--window-size=1400,1000", "--dump-dom", frame.as_uri())
    (told,) = re.findall(r'data-told="([^"]*)"', dom)
    found = json.loads(unescape(told))
    assert found["width"] == width
    assert found["page"] <= width
    assert (found["over"], found["fetched"], found["small"]) == ([], [], 0)


def test_pictures_and_print(browser: str, page: Path) -> None:
    picture, paper = page.with_name("page.png"), page.with_name("page.pdf")
    run(browser, page.parent, "--window-size=390,2000", f"--screenshot={picture}", page.as_uri())
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 30_000
    run(browser, page.parent, "--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 30
