"""Sphinx extension of the book: the map of the methods, the cheat sheet, and how one number was made."""

from docutils import nodes
from mm_pages import EquationIndexPage, Page, paragraph, table

from mmlib.book.pages import BOOK
from mmlib.book.pages import title as title_of


class MethodsMap(Page):
    """The map of the methods, drawn from ``data/methods.yaml``."""

    optional_arguments = 0

    def content_nodes(self) -> list[nodes.Node]:
        """The drawing."""
        from mmlib.book.methods import drawing, load

        return [nodes.raw("", drawing(load()), format="html")]


class CheatSheet(EquationIndexPage):
    """Every objective as its chapter has it, with the function that computes it and the tests that hold it."""

    def content_nodes(self) -> list[nodes.Node]:
        """A section a method."""
        from mmlib.book import methods

        known, made = methods.load(), []
        for id, found in methods.sheet(known).items():
            method = known[id]
            section = self.section(f"sheet-{id}", f"{method.name}, {method.year}")
            section += paragraph(f"{method.says[0].upper()}{method.says[1:]}. ", self.chapter(method))
            for answer, formula in found:
                section += nodes.math_block(formula, formula, nowrap=False, number=None, label=None)
                section += self.answer(answer)
            again = [
                label for label in method.equations if label not in [answer.label for answer, _ in found]
            ]
            if again:
                links = [part for label in again for part in (self.to_label(label, ""), nodes.Text(" "))]
                section += paragraph("Also, from above: ", *links)
            made.append(section)
        return made

    def chapter(self, method) -> nodes.reference:
        """A link to where it is derived."""
        page = f"{method.page.split('.')[0]}.html"
        return nodes.reference("", title_of(BOOK / method.page), refuri=page, internal=True)


class Made(Page):
    """One recorded number, and everything that it takes to make it again."""

    required_arguments = 3
    optional_arguments = 0

    def content_nodes(self) -> list[nodes.Node]:
        """A table for a recipe, a seed, and the path of a metric."""
        from mmlib.runs import results

        recipe, seed, path = self.arguments
        result = next(run for run in results.load(recipe) if run["seed"] == int(seed))
        made = result["provenance"]
        versions = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
        rows = [
            ["the number", f"{results.value(result, path):.4f}"],
            ["what it is", [nodes.literal("", path)]],
            ["where it lies", [nodes.literal("", f"data/results/{recipe}/seed-{seed}.json")]],
            ["recipe and hash", [nodes.literal("", f"{recipe}, {result['recipe']['hash']}")]],
            ["machine", f"{made['hardware']}, {made['threads']} thread, {made['device']}"],
            ["versions", f"Python {made['python']}, {versions}"],
            ["commit of the code", [nodes.literal("", made["commit"][:12])]],
            ["processor seconds of training", f"{result['seconds']['training_cpu']:.0f}"],
            ["seal", [nodes.literal("", f"SHA-256 {result['sha256'][:16]}...")]],
            ["make it again", [nodes.literal("", f"python -m mmlib train {recipe} --seed {seed}")]],
            [
                "hold it against the record",
                [nodes.literal("", f"python -m mmlib compare {recipe} --seed {seed}")],
            ],
        ]
        return [table(["", ""], rows, [2, 5])]


def setup(app):
    """Register the directives."""
    app.add_directive("methods-map", MethodsMap)
    app.add_directive("cheat-sheet", CheatSheet)
    app.add_directive("made", Made)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
