"""A JupyterLab server for the session, a browser for the module; a notebook per test, watched for errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import lab

HIDDEN_FIGURE = "Error: <rect> attribute"
"""bqplot subtracts its margins from the size of a figure in a tab that was hidden before it was laid out; the
negative rectangle is never painted and is right as soon as the tab is shown."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in Path(str(item.path)).parents:
            item.add_marker(pytest.mark.browser)


def no_browser(why: str) -> None:
    """Skip, except in CI, where a skipped browser test is a failure."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"browser tests cannot run: {why}")


@pytest.fixture(scope="module")  # Playwright occupies the thread's event loop: other tests need it back
def browser() -> Iterator[Any]:
    path = lab.find_browser()
    if path is None:
        no_browser("there is no Chromium or Google Chrome (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=path, args=lab.FLAGS)
        yield chrome
        chrome.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    running = lab.Server(tmp_path_factory.mktemp("lab")).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    tab = browser.new_page(viewport={"width": 1280, "height": 1500})
    tab.console_errors = []
    tab.on("console", lambda m: tab.console_errors.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda e: tab.console_errors.append(str(e)))
    yield tab
    tab.close()


@pytest.fixture
def open_notebook(page: Any, server: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Open a notebook with the given cells and run it, in place of the one before.

    An error anywhere, in a cell, a callback, a thread or the page itself, fails the test.
    """
    current: list[Any] = []
    problems: list[str] = []
    page.console_errors.clear()

    def close() -> None:
        while current:
            notebook = current.pop()
            problems.extend(notebook.errors)
            notebook.close()

    def make(*cells: str) -> Any:
        close()
        count = len(list(server.root.glob("*.ipynb")))
        current.append(lab.Notebook.open(page, server, list(cells), f"{request.node.name[:40]}-{count}.ipynb"))
        current[0].hide_side()
        current[0].theme("JupyterLab Light")
        current[0].run()
        return current[0]

    yield make
    close()
    assert not problems
    assert [e for e in page.console_errors if not e.startswith(HIDDEN_FIGURE)] == []


@pytest.fixture
def pictures(request: pytest.FixtureRequest) -> Path:
    """Where screenshots go: the folder named by SCREENSHOTS, else one that git ignores."""
    chosen = os.environ.get("SCREENSHOTS")
    folder = Path(chosen) if chosen else Path(str(request.config.rootpath)) / "test-artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
