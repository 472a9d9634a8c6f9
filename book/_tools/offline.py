"""Fail where a built book would fetch a script, a style, a font or an image from the network.

Usage: python book/_tools/offline.py _build/html
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

REMOTE = re.compile(r"^\s*(https?:)?//", re.I)
CSS = re.compile(
    r"""@import\s+(?:url\()?\s*["']?((?:https?:)?//[^"')\s]+)|url\(\s*["']?((?:https?:)?//[^"')\s]+)""", re.I
)
# <link> is harmless when it only names a page (canonical, next, search), harmful when it loads something.
LOADING = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "manifest",
}
WITH_SOURCE = {"script", "img", "iframe", "source", "video", "audio", "embed"}


class _Page(HTMLParser):
    """Collects the addresses that a browser would load on opening the page."""

    def __init__(self):
        super().__init__()
        self.remote: list[str] = []
        self.text_of: str | None = None

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        loads = tag == "link" and LOADING & set(attributes.get("rel", "").lower().split())
        address = attributes.get("src" if tag in WITH_SOURCE else "href", "")
        if (loads or tag in WITH_SOURCE) and REMOTE.match(address):
            self.remote.append(f"<{tag}> {address}")
        self.remote += [f"style {a or b}" for a, b in CSS.findall(attributes.get("style", ""))]
        self.text_of = tag

    def handle_data(self, data):
        if self.text_of == "style":
            self.remote += [f"<style> {a or b}" for a, b in CSS.findall(data)]

    def handle_endtag(self, tag):
        self.text_of = None


def remote_assets(folder: Path) -> list[str]:
    """The remote scripts, styles, fonts and images of every page and style sheet below `folder`."""
    found = []
    for path in sorted(folder.rglob("*.html")):
        if "_static" in path.relative_to(folder).parts:
            continue
        page = _Page()
        page.feed(path.read_text(encoding="utf-8", errors="replace"))
        found += [f"{path.relative_to(folder)}: {address}" for address in page.remote]
    for path in sorted(folder.rglob("*.css")):
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(folder)}: {a or b}" for a, b in CSS.findall(text)]
    return found


def main(folder: str) -> int:
    """Print every remote asset; the exit status says whether there was one, or no page at all."""
    pages = list(Path(folder).rglob("*.html"))
    if not pages:
        print(f"{folder}: no built page found; run `make book` first")
        return 1
    found = remote_assets(Path(folder))
    print("\n".join(found) or f"{len(pages)} pages read offline: nothing is loaded from the network")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
