"""What one page needs in its head: its styles, its scripts, its description, its links to source and launchers."""

import re
from html import unescape

from docutils import nodes

WIDGET = re.compile(r'data-widget="([A-Za-z_]\w*)"')
PROVIDERS = {"github.com": "blob", "gitlab.com": "-/blob"}


def widgets_in(body):
    """The names of the figures that a page holds, in order, each once.

    >>> widgets_in('<div data-widget="a"></div><div data-widget="b"></div><div data-widget="a"></div>')
    ['a', 'b']
    """
    return list(dict.fromkeys(WIDGET.findall(body)))


def styles_of(body):
    """The style sheets that a page needs: those of equations, grids and figures only where it holds some.

    >>> styles_of('<p>plain</p>')
    ['book.css']
    """
    needed = {
        "equations.css": 'class="katex' in body,
        "design.css": 'class="sd-' in body or " sd-" in body,
        "figures.css": "data-widget=" in body,
    }
    return ["book.css", *[name for name, used in needed.items() if used]]


def scripts_of(body):
    """The scripts that a page needs, in the order in which they run.

    >>> scripts_of('<div data-widget="bpe_merges"></div>')
    ['book.js', 'widgets/bpe_merges.js', 'widgets/host.js']
    """
    widgets = widgets_in(body)
    figures = [f"widgets/{name}.js" for name in widgets] + (["widgets/host.js"] if widgets else [])
    code = ["code.js"] if 'class="highlight' in body else []
    return ["book.js", *code, *figures]


def description_of(doctree, limit=180):
    """The first paragraph of a page as its description, cut at a word after at most `limit` characters."""
    if doctree is None:
        return ""
    for paragraph in doctree.findall(nodes.paragraph):
        text = re.sub(r"\s+", " ", paragraph.astext()).strip()
        if len(text) >= 40:
            return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0].rstrip(",;:") + " …"
    return ""


def source_link(options, path):
    """The address of a page's source in the repository, or "" where none is set.

    >>> source_link({"repository_url": "https://github.com/me/book", "repository_branch": "main"}, "book/a.ipynb")
    'https://github.com/me/book/blob/main/book/a.ipynb'
    >>> source_link({"repository_url": ""}, "book/a.ipynb")
    ''
    """
    url = (options.get("repository_url") or "").rstrip("/").removesuffix(".git")
    if not url:
        return ""
    folder = (options.get("path_to_docs") or "").strip("/")
    view = next((view for host, view in PROVIDERS.items() if f"//{host}/" in url), "blob")
    return "/".join(filter(None, [url, view, options.get("repository_branch") or "main", folder, path]))


def launch_links(context):
    """The launchers that the theme has worked out for this page: a list of (name, address)."""
    groups = [group for group in context.get("header_buttons", []) if group.get("label") == "launch-buttons"]
    return [(button["text"], button["url"]) for group in groups for button in group["buttons"] if button.get("url")]


def with_fitting_roles(body):
    """A page's HTML with asides as notes, not landmarks within the text, and sources as items of their list.

    >>> with_fitting_roles('<aside class="margin sidebar"></aside><div class="citation" role="doc-biblioentry"></div>')
    '<aside role="note" class="margin sidebar"></aside><div class="citation" role="listitem"></div>'
    """
    body = re.sub(r'<aside (?=class="[^"]*\b(?:margin|sidebar|footnote-list)\b)', '<aside role="note" ', body)
    return body.replace('role="doc-biblioentry"', 'role="listitem"')


def add_page_details(app, pagename, templatename, context, doctree):
    """Puts the `book_*` names that the layout prints into the page's context."""
    body = context.get("body") or ""
    inside_nav = "".join(title for _, title, _ in context.get("book_sections", []))
    options = app.config.html_theme_options
    repository = (options.get("repository_url") or "").strip()
    context["body"] = body = with_fitting_roles(body)
    context["book_styles"] = styles_of(body + inside_nav)
    context["book_scripts"] = scripts_of(body)
    context["book_description"] = (
        "" if 'name="description"' in (context.get("metatags") or "") else description_of(doctree)
    )
    context["book_title"] = app.config.html_title
    suffix = context.get("page_source_suffix") or ""
    is_notebook = suffix == ".ipynb"
    context["book_download"] = f"_sources/{context['sourcename']}" if is_notebook and context.get("sourcename") else ""
    context["book_source"] = source_link(options, pagename + suffix) if suffix else ""
    context["book_launchers"] = launch_links(context) if is_notebook and repository else []
    context["book_plain_title"] = unescape(re.sub(r"<[^>]+>", "", context.get("title") or "")) or app.config.html_title
