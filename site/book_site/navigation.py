"""What the layout needs to draw the way through the book: its parts, their chapters, the sections of this page."""

from docutils import nodes

DEPTH = 2  # levels of headings listed under the present chapter


def sections_of(app, docname):
    """The headings of a page: a list of (anchor, HTML of the title, sections below it), `DEPTH` levels deep."""

    def entries(bullets, depth):
        found = []
        for item in bullets.children:
            reference = next(iter(item.findall(nodes.reference)), None)
            if reference is None or not isinstance(item, nodes.list_item):
                continue
            below = [child for child in item.children if isinstance(child, nodes.bullet_list)]
            text = nodes.inline("", "", *[child.deepcopy() for child in reference.children])
            title = app.builder.render_partial(text)["fragment"]
            inside = entries(below[0], depth - 1) if below and depth > 1 else []
            found.append((reference.get("anchorname", ""), title, inside))
        return found

    toc = app.env.tocs.get(docname)
    page = next((child for child in toc.children if isinstance(child, nodes.list_item)), None) if toc else None
    below = [child for child in page.children if isinstance(child, nodes.bullet_list)] if page else []
    return entries(below[0], DEPTH) if below else []


def number_of(env, docname):
    """The number of a chapter in the book ("2"), or "" where it has none."""
    return ".".join(map(str, env.toc_secnumbers.get(docname, {}).get("", ())))


def book_parts(env):
    """The parts of the book in order: a list of (caption, [docname, ...])."""
    site_map = env.external_site_map
    return [
        (tree.caption or "", [str(item) for item in tree.items if str(item) in env.found_docs])
        for tree in site_map.root.subtrees
    ]


def add_navigation(app, pagename, templatename, context, doctree):
    """Puts `book_nav` (parts with their chapters), `book_sections` and `book_part` into the page's context."""
    env = app.env
    parts = []
    for caption, docnames in book_parts(env):
        chapters = [
            {
                "docname": docname,
                "title": env.titles[docname].astext(),
                "number": number_of(env, docname),
                "current": docname == pagename,
            }
            for docname in docnames
        ]
        parts.append({"caption": caption, "chapters": chapters})
        if pagename in docnames:
            context["book_part"] = caption
    context["book_nav"] = parts
    context["book_sections"] = sections_of(app, pagename) if pagename in env.tocs else []
    context["book_root"] = app.config.root_doc
