"""Links that work in a notebook as plain Markdown and become exact in the book: [a token](#term-token) leads to the
glossary, [Gage 1994](#cite-gage1994) to its entry in the bibliography, [step 3](page.ipynb#fig-merges?step=3) to a
moment of another page's figure.
"""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

logger = logging.getLogger(__name__)


def slug(term):
    """A term as it is written in a link: small letters, hyphens, no possessive.

    >>> slug("Zipf's law"), slug("KV cache")
    ('zipf-law', 'kv-cache')
    """
    return re.sub(r"[^a-z0-9]+", "-", term.lower().replace("'s", "").replace("’s", "")).strip("-")


def targets(env):
    """Where each such link leads: {name: (docname, anchor)}."""
    terms = {
        f"term-{slug(name)}": place
        for (kind, name), place in env.domaindata["std"]["objects"].items()
        if kind == "term"
    }
    sources = {
        f"cite-{citation.key}": (citation.bibliography_key.docname, citation.citation_id)
        for citation in env.get_domain("cite").citations
    }
    return terms | sources


class ResolvePortableLinks(SphinxPostTransform):
    """Resolves #term-NAME and #cite-KEY before anything else looks for such anchors on the page itself."""

    default_priority = 5

    def run(self, **_):
        known = None
        for link in list(self.document.findall(pending_xref)):
            name, moment = link.get("reftarget", ""), link.get("reftargetid") or ""
            to_figure = moment.startswith("fig-") and name in self.env.all_docs
            if not to_figure and not name.startswith(("term-", "cite-")):
                continue
            known = targets(self.env) if known is None else known
            content = nodes.inline("", "", *[child.deepcopy() for child in link.children])
            if to_figure:  # a figure stands in an output, where only the tests of the built pages look for it
                link.replace_self(make_refnode(self.app.builder, self.env.docname, name, moment, content))
            elif name in known:
                docname, anchor = known[name]
                link.replace_self(make_refnode(self.app.builder, self.env.docname, docname, anchor, content))
            else:
                where = "the glossary has no such term" if name[0] == "t" else "the bibliography has no such source"
                logger.warning("The link #%s leads nowhere: %s.", name, where, location=link, type="book")
                link.replace_self(content)


def setup(app):
    """Registers the transform."""
    app.add_post_transform(ResolvePortableLinks)
