"""The index of the papers' equations: complete, and without an entry that leads nowhere."""

import re
from collections import Counter

import pytest

from mmlib.book import equations
from mmlib.book.equations import registered
from mmlib.book.errata import load as load_errata

NUMBERED = {"mmali": 11, "mmjsd": 20, "rbc": 14, "meme": 12}
NAMED = {"mmali": 4, "mmjsd": 4, "rbc": 1}
CITATIONS = {
    "Chen and Zhu 2022": "mmali",
    "Sutter et al. 2020, supplement": "mmjsd",
    "Shi et al. 2021": "rbc",
    "Joy et al. 2022": "meme",
}


@pytest.fixture(scope="module")
def statements():
    return equations.load()


@pytest.fixture(scope="module")
def found():
    return equations.answers()


def test_every_equation_of_the_four_papers_is_listed(statements):
    numbered = [statement for statement in statements.values() if not statement.named]
    assert Counter(statement.paper for statement in numbered) == NUMBERED
    assert len(numbered) == 57
    for paper, count in NUMBERED.items():
        numbers = [int(statement.number) for statement in numbered if statement.paper == paper]
        assert numbers == list(range(1, count + 1))
    assert Counter(statement.paper for statement in statements.values() if statement.named) == NAMED


def test_no_label_leads_nowhere(statements, found):
    for statement in statements.values():
        for label in statement.labels:
            assert label in found and found[label].page, f"{statement.id}: {label} is in no page of the book"
            if label.startswith("eq-"):
                assert found[label].equation and found[label].tests, label


def test_every_equation_that_a_function_cites_leads_to_the_function(statements, found):
    cited = 0
    for label, source in ((label, a.equation.source) for label, a in found.items() if a.equation):
        for citation, paper in CITATIONS.items():
            for number in re.findall(rf"{citation}, Eq\. (\d+)", source):
                assert label in statements[f"{paper}-eq-{number}"].labels, (label, source)
                cited += 1
    assert cited >= 2


def test_every_equation_of_the_book_is_reached(statements, found):
    used = {label for statement in statements.values() for label in statement.labels}
    others = {answer.label for answer in equations.elsewhere(statements, found)}
    labels = {equation.label for equation in registered()}
    assert others == labels - used
    assert all(found[label].page and found[label].equation.source for label in others)


def test_links_between_errata_and_equations_are_kept_at_one_end_and_lead_both_ways(statements):
    """From an erratum to its equations in its own field; from an equation back by looking who names it."""
    errata = load_errata()
    about = equations.errata_of(statements, errata)
    there = {(id, entry.id) for entry in errata.values() for id in entry.equations}
    assert there == {(id, erratum) for id, found in about.items() for erratum in found}
    assert set(about) == set(statements)
    assert about["rbc-eq-5"][0] == "rbc-1"


def test_mathematics_is_closed(statements):
    for statement in statements.values():
        assert statement.states.count("$") % 2 == 0, statement.id
        for left, right in ("{}", "[]", "()"):
            inside = "".join(statement.states.split("$")[1::2])
            assert inside.count(left) == inside.count(right), statement.id


def test_the_source_is_what_the_docstring_says(found):
    assert found["eq-cubo"].equation.source == (
        "Dieng et al. 2017, Section 3; Shi et al. 2021, Eq. 5, where the expectation wrongly stands outside the "
        "logarithm."
    )
    assert found["eq-jmvae-penalty"].equation.source == "Suzuki et al. 2016, Section 3.3."
    assert found["eq-elbo"].equation.where == "mmlib.bounds.elbo" and found["eq-elbo"].page == "bounds.ipynb"
    assert found["thm-elbo"].equation is None and found["thm-elbo"].page == "bounds.ipynb"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: rbc-eq-1", "id: rbc-eq-2", "id is 'rbc-eq-2'; expected 'rbc-eq-1'"),
        ("id: rbc-eq-1", "id: meme-eq-1", "id is 'meme-eq-1'"),
        ('number: "1"', "number: Lemma 1", "expected 'rbc-lemma-1'"),
    ],
)
def test_an_id_that_does_not_fit_the_number_is_refused(tmp_path, old, new, message):
    text = '- id: rbc-eq-1\n  paper: rbc\n  number: "1"\n  states: x\n  labels: []\n'
    path = tmp_path / "equations.yaml"
    path.write_text(text)
    assert list(equations.load(path)) == ["rbc-eq-1"]
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError) as caught:
        equations.load(path)
    assert message in str(caught.value)
