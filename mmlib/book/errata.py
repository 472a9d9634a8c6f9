"""Errata: what the papers print and what is right, what their released code does, what they leave open.

The entries are rows of ``data/errata.yaml``. Each has a reason, and where a number of ours can show it, the tests and
the places of the book that do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ERRATA = ROOT / "data" / "errata.yaml"

PAPERS = {
    "mmali": "Multimodal Adversarially Learned Inference with Factorized Discriminators",
    "mmjsd": "Multimodal Generative Learning Utilizing Jensen-Shannon-Divergence (supplement)",
    "rbc": "Relating by Contrasting",
    "meme": "Learning Multimodal VAEs through Mutual Supervision",
    "mmvae": "Variational Mixture-of-Experts Autoencoders",
    "mvae": "Multimodal Generative Models for Scalable Weakly-Supervised Learning",
    "jmvae": "Joint Multimodal Learning with Deep Generative Models",
    "mopoe": "Generalized Multimodal ELBO",
    "cub": "Birds with captions, in several papers",
}
CITATIONS = {  # keys of book/references.bib
    "mmali": "chen2022mmali",
    "mmjsd": "sutter2020mmjsd",
    "rbc": "shi2021contrasting",
    "meme": "joy2022meme",
    "mmvae": "shi2019mmvae",
    "mvae": "wu2018mvae",
    "jmvae": "suzuki2016jmvae",
    "mopoe": "sutter2021mopoe",
    "cub": "",
}
KINDS = {
    "error": "mathematics or a number that cannot be right as it stands",
    "misprint": "a slip of the pen: what is meant is clear, or another line of the same paper says it",
    "inconsistency": "two places of the paper do not agree with each other",
    "claim": "a sentence says more than the paper's own numbers do",
    "code": "paper and released code differ",
    "silent": "the paper does not say, and a choice had to be made",
}
_LISTS = ("shown_by", "equations", "exhibits")


@dataclass(frozen=True)
class Erratum:
    """One row of ``data/errata.yaml``.

    Attributes:
        id: unique, ``<paper>-<rest>``.
        paper: a key of `PAPERS`.
        kind: a key of `KINDS`.
        place: where in the paper or in its code.
        title: one line.
        printed: what the paper says.
        correct: what is right, or what the code does, or what we choose where both are silent.
        reason: why, in a few plain sentences.
        shown_by: tests (``tests/test_x.py::test_name``) and places of the book (``page.ipynb#anchor``, the anchor a
            label or the slug of a heading) where a number shows it.
        equations: ids in ``data/equations.yaml``.
        exhibits: ids of tables and figures in ``data/ledger``.
    """

    id: str
    paper: str
    kind: str
    place: str
    title: str
    printed: str
    correct: str
    reason: str
    shown_by: tuple[str, ...] = ()
    equations: tuple[str, ...] = ()
    exhibits: tuple[str, ...] = ()


def load(path: Path | str = ERRATA) -> dict[str, Erratum]:
    """All entries by id, in the order of the file.

    Raises:
        ValueError: if a row lacks a field or has an unknown one, if a paper or kind is unknown, if a text is empty, a
            list is no list of distinct texts, an id does not begin with its paper, or an id occurs twice.
    """
    import yaml

    entries: dict[str, Erratum] = {}
    for row in yaml.safe_load(Path(path).read_text("utf-8")) or []:
        entry = _entry(row)
        if entry.id in entries:
            raise ValueError(f"{entry.id} occurs twice; expected every id once")
        entries[entry.id] = entry
    return entries


def entries_by_paper(path: Path | str = ERRATA) -> dict[str, list[Erratum]]:
    """Entries under the title of their paper, papers in the order of `PAPERS`, entries in that of the file."""
    entries = load(path).values()
    grouped = {title: [e for e in entries if e.paper == paper] for paper, title in PAPERS.items()}
    return {title: found for title, found in grouped.items() if found}


def missing_targets(entry: Erratum, root: Path | str = ROOT) -> list[str]:
    """Those of the entry's ``shown_by`` that do not exist below ``root``; empty if all do."""
    return [target for target in entry.shown_by if not _exists(target, Path(root))]


def anchors(text: str) -> set[str]:
    """Anchors of a page: its labels, and the slugs of its headings as the built page has them."""
    labels = re.findall(r"\(([\w-]+)\)=", text) + re.findall(r"\$\$ *\(([\w-]+)\)", text)
    labels += re.findall(r":(?:label|name): *([\w-]+)", text)
    headings = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    return {*labels, *(slug(heading) for heading in headings)}


def slug(heading: str) -> str:
    """The id that the built page gives a heading."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def _entry(row: object) -> Erratum:
    known = [field.name for field in fields(Erratum)]
    if not isinstance(row, dict) or set(row) != set(known):
        raise ValueError(f"an erratum has fields {sorted(row)}; expected {sorted(known)}")
    name = row["id"]
    for field in known:
        value = row[field]
        if field in _LISTS:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ValueError(f"{name}: {field} is {value!r}; expected a list of texts")
            if len(value) != len(set(value)):
                raise ValueError(f"{name}: {field} is {value!r}; expected every text once")
        elif not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name}: {field} is {value!r}; expected a text")
    for field, allowed in (("paper", PAPERS), ("kind", KINDS)):
        if row[field] not in allowed:
            raise ValueError(f"{name}: {field} is {row[field]!r}; expected one of {', '.join(allowed)}")
    if not re.fullmatch(rf"{row['paper']}-[a-z0-9-]+", name):
        raise ValueError(f"id is {name!r}; expected {row['paper']}-<rest> in lower case")
    return Erratum(**{field: tuple(row[field]) if field in _LISTS else row[field].strip() for field in known})


def _exists(target: str, root: Path) -> bool:
    if "::" in target:
        file, name = target.split("::", 1)
        path = root / file
        return path.is_file() and f"def {name}(" in path.read_text("utf-8")
    page, _, anchor = target.partition("#")
    path = root / "book" / page
    return path.is_file() and anchor in anchors(_markdown(path))


def _markdown(path: Path) -> str:
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    import json

    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
