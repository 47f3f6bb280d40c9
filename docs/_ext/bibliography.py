"""The references of the package (solidqmmm/data/references.bib) as a page, and a role that cites them.

    {cite}`bernstein2009hybrid`        a link such as "Bernstein et al. 2009"
    ```{references}                    the list
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective, SphinxRole


@cache
def entries() -> dict[str, dict]:
    """The entries of references.bib by key, accents and dashes as characters."""
    import bibtexparser
    from bibtexparser.bparser import BibTexParser
    from bibtexparser.customization import convert_to_unicode

    def readable(record):
        fields = convert_to_unicode(record)
        return {
            key: value.replace("{", "").replace("}", "").replace("--", "–").replace("``", "“").replace("''", "”")
            if isinstance(value, str)
            else value
            for key, value in fields.items()
        }

    text = files("solidqmmm.data").joinpath("references.bib").read_text(encoding="utf-8")
    parser = BibTexParser(common_strings=True, ignore_nonstandard_types=False, customization=readable)
    return {entry["ID"]: entry for entry in bibtexparser.loads(text, parser).entries}


def _names(entry) -> list[str]:
    return [name.strip() for name in " ".join(entry.get("author", "").split()).split(" and ") if name.strip()]


def short(entry) -> str:
    """'Bernstein et al. 2009'."""
    families = [name.split(",")[0] for name in _names(entry)]
    who = families[0] if len(families) == 1 else " and ".join(families) if len(families) == 2 else f"{families[0]} et al."
    return f"{who} {entry['year']}"


def full(entry) -> str:
    """One reference in MyST."""
    names = [" ".join(reversed([part.strip() for part in name.split(",", 1)])) for name in _names(entry)]
    who = ", ".join(names if len(names) <= 6 else [*names[:4], f"and {len(names) - 4} others"])
    where = " ".join(filter(None, (entry.get("journal", entry.get("publisher", "")), entry.get("volume", ""))))
    if "booktitle" in entry:
        where = f"In: {entry['booktitle']}, {where}"
    where = ", ".join(filter(None, (where, entry.get("pages", ""), entry["year"])))
    link = f" [doi:{entry['doi']}](https://doi.org/{entry['doi']})" if "doi" in entry else ""
    return f"{who}. *{entry['title']}*. {where}.{link}"


class Cite(SphinxRole):
    """A link to an entry of the bibliography; an unknown key fails the build."""

    def run(self):
        found = entries().get(self.text)
        if found is None:
            message = self.inliner.reporter.warning(f"no reference '{self.text}' in references.bib", line=self.lineno)
            return [nodes.literal(text=self.text)], [message]
        link = pending_xref(
            "", refdomain="std", reftype="ref", reftarget=self.text, refexplicit=True, refdoc=self.env.docname, refwarn=True
        )
        link += nodes.inline("", short(found), classes=["xref", "std", "std-ref"])
        return [link], []


class References(SphinxDirective):
    """All entries, by their short names."""

    def run(self):
        made = []
        for key, entry in sorted(entries().items(), key=lambda item: short(item[1]).lower()):
            text = f"**{short(entry)}** (`{key}`). {full(entry)}"
            paragraph = self.parse_text_to_nodes(text)
            target = nodes.target("", "", ids=[key], names=[key])
            self.state.document.note_explicit_target(target)
            made += [target, *paragraph]
        return made


def setup(app):
    app.add_role("cite", Cite())
    app.add_directive("references", References)
    return {"parallel_read_safe": True}
