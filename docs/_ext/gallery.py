"""Cards of pages that a build has executed: a picture of the page, its title, and the sentence below it.

    ```{gallery}
    tutorials/elastic_tensor 2        the second picture of that page (the first without a number)
    ```

Everything on a card is the page's own, so nothing is drawn or written twice.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Cards(nodes.General, nodes.Element):
    """Stands where the cards will be once all pages are read."""


class Gallery(SphinxDirective):
    """One line for each page."""

    has_content = True

    def run(self):
        self.env.note_reread()  # pictures of other pages may be others
        found = [line.split() for line in self.content if line.strip()]
        return [Cards(pages=[(name, int(rest[0]) if rest else 1) for name, *rest in found])]


def card(app, docname: str, page: str, number: int) -> nodes.container:
    """Picture, title and question of a page, linked to it."""
    tree = app.env.get_doctree(page)
    pictures = list(tree.findall(nodes.image))
    if len(pictures) < number:
        raise ValueError(f"{page} has {len(pictures)} pictures, the gallery asks for number {number}")
    picture = pictures[number - 1].deepcopy()
    for name in ("width", "height"):
        picture.attributes.pop(name, None)
    title = app.env.titles[page].astext()
    question = next(tree.findall(nodes.emphasis)).deepcopy().children
    target = app.builder.get_relative_uri(docname, page)
    link = nodes.reference("", "", picture, internal=True, refuri=target)
    name = nodes.reference("", "", nodes.strong(text=title), internal=True, refuri=target)
    rows = ([link], [name], question)
    made = nodes.container("", *(nodes.paragraph("", "", *row) for row in rows))
    made["classes"].append("card")
    return made


def put_cards(app, doctree, docname):
    """Replaces the placeholders."""
    for place in list(doctree.findall(Cards)):
        cards = [card(app, docname, page, number) for page, number in place["pages"]]
        box = nodes.container("", *cards)
        box["classes"].append("gallery")
        place.replace_self(box)


def setup(app):
    app.add_node(Cards)
    app.add_directive("gallery", Gallery)
    app.connect("doctree-resolved", put_cards)
    app.add_css_file("gallery.css")
    return {"parallel_read_safe": True}
