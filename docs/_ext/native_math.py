"""Equations as MathML, which browsers draw themselves: the pages need no network and no LaTeX."""

from __future__ import annotations

import re
from html import escape

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def _mathml(node, *, as_block: bool) -> str:
    # docutils reads the two arguments of \tfrac12 as the number 12.
    code = re.sub(r"(\\[td]?frac)(\d)(\d)", r"\1{\2}{\3}", node.astext().strip())
    try:
        return tex2mathml(code, as_block=as_block)
    except MathError as error:
        logger.warning("no MathML for %r: %s", code, error, location=node)
        return f"<code>{escape(code)}</code>"


def visit_inline(translator, node):
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    translator.body.append(f'<div class="math">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True}
