"""Folded boxes without a script: an admonition of class `dropdown` becomes a native <details> at build time."""

from docutils import nodes
from sphinx.locale import admonitionlabels
from sphinx.transforms.post_transforms import SphinxPostTransform


class Fold(nodes.General, nodes.Element):
    """A box whose first child is its summary line."""


class FoldSummary(nodes.General, nodes.TextElement):
    """The line of a fold that is always visible."""


def title_of(box):
    """The words of a box's title, which is taken out of it: its own title, or the label of its kind ("Note")."""
    for child in box.children:
        if isinstance(child, nodes.title):
            box.remove(child)
            return child.astext().strip()
    return str(admonitionlabels.get(box.tagname, "Show"))


class FoldDropdowns(SphinxPostTransform):
    """Replaces each admonition of class `dropdown`, and each `{toggle}` block, by a Fold."""

    default_priority = 990
    formats = ("html",)

    def run(self, **_):
        boxes = [
            node
            for node in self.document.findall(nodes.Element)
            if (isinstance(node, nodes.Admonition) and "dropdown" in node.get("classes", []))
            or (isinstance(node, nodes.container) and "toggle" in node.get("classes", []))
        ]
        for box in boxes:
            fold = Fold(ids=box.get("ids", []), classes=[name for name in box["classes"] if name != "dropdown"])
            if box.tagname in admonitionlabels:
                fold["classes"].append(box.tagname)
            fold["open"] = "toggle-shown" in box["classes"]
            fold += FoldSummary("", title_of(box))
            fold += [child.deepcopy() for child in box.children]
            box.replace_self(fold)


def visit_fold(self, node):
    attributes = {"open": "open"} if node.get("open") else {}
    self.body.append(self.starttag(node, "details", CLASS="admonition", **attributes))


def depart_fold(self, node):
    self.body.append("</details>\n")


def visit_summary(self, node):
    self.body.append('<summary class="admonition-title">')


def depart_summary(self, node):
    self.body.append("</summary>\n")


def setup(app):
    """Registers the nodes and the transform."""
    app.add_node(Fold, html=(visit_fold, depart_fold))
    app.add_node(FoldSummary, html=(visit_summary, depart_summary))
    app.add_post_transform(FoldDropdowns)
