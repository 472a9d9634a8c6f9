"""The file of methods: the map, the cheat sheet and the order of the book are drawn from it and cannot rot."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import pytest
import yaml
from test_book import BOOK, ROOT, prose

import mmlib
from mmlib.book import equations, methods
from mmlib.models import MODELS

METHODS = methods.load()


def stories():
    """The pages that are read one after the other, in the order of the table of contents."""
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))["parts"]
    return [
        next(BOOK.parent.glob(f"{chapter['file']}.*"))
        for part in parts
        if part["caption"] != "Reference"
        for chapter in part["chapters"]
    ]


def test_every_model_of_the_library_is_on_the_map_once():
    named = [model for method in METHODS.values() for model in method.models]
    assert sorted(named) == sorted(MODELS)


def test_every_method_has_a_chapter_a_work_and_forebears():
    works = re.findall(
        r"^@\w+\{([\w-]+),.*?year\s*=\s*\{(\d+)", (BOOK / "references.bib").read_text(), re.M | re.S
    )
    for method in METHODS.values():
        assert (BOOK / method.page).is_file() and (method.work, str(method.year)) in works, method.id
        assert all(METHODS[id].year <= method.year for id in method.after) or not method.after
        assert 0 <= method.lane <= len(methods.LANES) - 1


def test_boxes_of_the_map_do_not_overlap_and_stay_on_it():
    at = methods.places(METHODS)
    for id, (x, y) in at.items():
        assert (
            methods.LEFT <= x - methods.WIDTH / 2
            and x + methods.WIDTH / 2 <= methods.LEFT + 4 * methods.COLUMN
        )
        for other, (u, v) in at.items():
            assert id == other or abs(x - u) >= methods.WIDTH or abs(y - v) >= methods.HEIGHT, (id, other)


def test_the_map_is_a_drawing_of_named_links():
    root = ElementTree.fromstring(methods.drawing(METHODS))
    space = "{http://www.w3.org/2000/svg}"
    links = root.findall(f"{space}a")
    assert [link.get("href") for link in links] == [f"{m.page.split('.')[0]}.html" for m in METHODS.values()]
    for link, method in zip(links, METHODS.values(), strict=True):
        assert link.get("aria-label") == f"{method.name}, {method.year}: {method.says}"
        box, text = link.find(f"{space}rect"), link.find(f"{space}text")
        left, top, x, y = (float(each.get(key)) for each in (box, text) for key in ("x", "y"))
        assert text.text == method.name and abs(left + methods.WIDTH / 2 - x) < 0.01
        assert top < y - 12 and y < top + methods.HEIGHT  # letters are twelve high
    assert root.get("aria-label") and len(root.findall(f"{space}path")) == sum(
        len(m.after) for m in METHODS.values()
    )


def test_names_are_escaped_on_the_map():
    odd = {"a": dataclasses.replace(METHODS["vae"], id="a", name="A & <B>", says='"so"')}
    assert 'aria-label="A &amp; &lt;B&gt;, 2014: &quot;so&quot;"' in methods.drawing(odd)
    ElementTree.fromstring(methods.drawing(odd))


# --- the cheat sheet ------------------------------------------------------------------------------------------------


def test_the_sheet_has_every_objective_of_a_model():
    """What a model maximises is on the sheet; a new one that is not turns this red."""
    listed = {label for method in METHODS.values() for label in method.equations}
    objectives = {
        e.label
        for e in equations.registered()
        if e.name.endswith(("_objective", "_bound", "elbo", "_penalty"))
    }
    assert objectives <= listed | {"eq-mmvae-own-decodes"}  # an alternative estimate that the chapter refuses


def test_every_formula_is_the_chapter_s_and_has_function_and_test():
    found = [each for parts in methods.sheet(METHODS).values() for each in parts]
    labels = [answer.label for answer, _ in found]
    assert len(labels) == len(set(labels)) and set(labels) == {
        x for m in METHODS.values() for x in m.equations
    }
    for answer, formula in found:
        page = re.sub(r"\s+", " ", prose(BOOK / answer.page))
        assert re.sub(r"\s+", " ", f"$$ {formula} $$ ({answer.label})") in page and "$" not in formula


def test_equations_of_the_papers_lead_to_the_sheet():
    """What the sheet shows answers equations of the four papers, or is said to come from elsewhere."""
    answered = {label for statement in equations.load().values() for label in statement.labels}
    others = {answer.label for answer in equations.elsewhere(equations.load(), equations.answers())}
    assert {label for method in METHODS.values() for label in method.equations} <= answered | others


def test_an_equation_without_a_page_a_function_or_a_test_is_refused():
    lost = {"a": dataclasses.replace(METHODS["mvae"], equations=("eq-nowhere",))}
    with pytest.raises(ValueError, match="eq-nowhere is None; expected a page, a function and a test"):
        methods.sheet(lost)
    with pytest.raises(
        ValueError, match="mvae: thm-mvae-exact is Answer.*expected a page, a function and a test"
    ):
        methods.sheet({"mvae": dataclasses.replace(METHODS["mvae"], equations=("thm-mvae-exact",))})
    with pytest.raises(ValueError, match="label is 'eq-mvae'; expected that of an equation on jmvae.ipynb"):
        methods.formula("eq-mvae", "jmvae.ipynb")


# --- the order, and who is cited ------------------------------------------------------------------------------------


def test_every_page_leads_to_the_next():
    pages = stories()
    for page, following in zip(pages, pages[1:], strict=False):
        found = re.search(r"^\*\*Next:\*\*.*?\]\(([\w.-]+?)(?:#[\w-]+)?\)", prose(page), re.M)
        assert found and found[1] == following.name, (
            f"{page.name} leads to {found and found[1]}, not {following.name}"
        )


def test_the_front_is_short():
    text = prose(BOOK / "index.md")
    assert (
        len(text.split()) < 400
        and len(re.findall(r"\{grid-item-card\}", text)) == 3
        and text.count("{figure}") == 1
    )


def test_citation_file_is_valid_and_says_what_the_book_is():
    """The required keys of the Citation File Format 1.2.0, and no key that it does not know."""
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(content)
    known = {"cff-version", "message", "title", "authors", "type", "version", "abstract", "keywords"}
    assert set(content) <= known | {"preferred-citation"}
    assert content["cff-version"] == "1.2.0" and content["type"] in ("software", "dataset")
    assert (content["title"], content["version"]) == (config["title"], mmlib.__version__)
    book = content["preferred-citation"]
    assert (
        {"type", "title", "authors"} <= set(book)
        and book["type"] == "book"
        and book["title"] == config["title"]
    )
    for author in (*content["authors"], *book["authors"]):
        assert author == {"name": config["author"]}  # an entity: no person is invented
    assert str(book["year"]) == config["copyright"]
