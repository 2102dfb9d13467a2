"""The reference has a section with a docstring for every public name, and no broken link."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lrf_optuna
from benchmarks.pages.reference import write_reference


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_reference(tmp_path_factory.mktemp("docs")).read_text(encoding="utf-8")


def section_of(page: str, name: str) -> str:
    """The part of the page from a name to the next one on the same level."""
    return page.partition(f'<section id="{name}">')[2].partition("\n                </section>")[0]


@pytest.mark.parametrize("name", lrf_optuna.__all__)
def test_every_public_name_has_a_section_with_a_docstring(page: str, name: str) -> None:
    found = re.search(r'<div class="docstring">(.*?)</div>', section_of(page, name), re.DOTALL)
    assert found, name
    assert len(re.sub("<[^>]+>", "", found[1]).split()) > 3


def test_every_link_of_the_page_leads_to_a_section(page: str) -> None:
    links = set(re.findall(r'href="([^"]*)"', page))
    places = set(re.findall(r'\bid="([^"]*)"', page))
    assert len(links) > 50
    assert {link for link in links if link.startswith("#")} <= {f"#{place}" for place in places}
    assert all(link.startswith(("#", "https://pdoc.dev")) for link in links)


def test_keywords_are_shown_with_their_defaults_and_what_they_are(page: str) -> None:
    text = re.sub("<[^>]+>", "", section_of(page, "compress"))
    assert "max_drop" in text
    assert "Training images to fit layers to and to score plans on." in text
    assert "**" not in text


def test_the_page_names_no_place_of_this_machine(page: str) -> None:
    assert str(Path(__file__).parents[2]) not in page
    assert not re.search(r"object at 0x", page)


def test_the_package_is_as_before(page: str) -> None:
    assert not set(lrf_optuna.__all__) & set(vars(lrf_optuna))
