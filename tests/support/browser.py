"""A real browser for tests: Debian's Chromium, driven by Playwright; tests are skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

WIDTHS = (1280, 390)
"""Pixels of a usual window and of a telephone."""
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 120_000
"""Milliseconds that a page may take, on a machine that does other work as well."""


def chromium() -> str:
    """The path of Chromium; the test is skipped where there is none, or Playwright is not installed."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'lrf-optuna[test]'")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip("there is no Chromium: apt-get install chromium")
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium with an empty profile."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS), headless=True)
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def page_at(opened: Any, url: str, width: int, scheme: str = "light") -> Iterator[tuple[Any, list[str]]]:
    """A page at a URL, and the errors that it writes to its console."""
    context = opened.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(url, wait_until="domcontentloaded")
        yield page, errors
    finally:
        context.close()
