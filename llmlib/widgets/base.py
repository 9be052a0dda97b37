"""What every figure shares in Python: a widget whose state is plain data, and its twin in HTML."""

import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from uuid import NAMESPACE_URL, uuid5

import anywidget
import traitlets

from llmlib.widgets.modules import css_source, host_source, module_source

__all__ = ["BookWidget", "css_source", "host_source", "module_source", "table_html"]


class BookWidget(anywidget.AnyWidget):
    """A figure: traits hold its whole state as JSON, and `<_module>.js` draws it and does all that the reader asks for.

    A subclass names its module, declares its traits with `.tag(sync=True)` (units in `help=`), checks them, and writes
    `fallback`. The figure is shown twice over: live where there is a kernel, else as a twin in HTML that `host.js`
    brings to life.

    `figure_id` is its address in a page (#fig-bpe-merges) and has to be another one for each figure of a chapter.
    """

    _module: ClassVar[str]  # not _esm: anywidget puts a trait in its place
    _shown: ClassVar[Counter[str]] = Counter()

    number = traitlets.Unicode("", help="The figure's number in the book, such as 2.1, or nothing.").tag(sync=True)
    caption = traitlets.Unicode("", help="What the figure shows, and where its numbers come from.").tag(sync=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "_module" in cls.__dict__:
            cls._esm = module_source(cls._module)
            cls._css = css_source()
        super().__init_subclass__(**kwargs)

    def __init__(self, *, figure_id: str | None = None, **state: Any) -> None:
        unknown = sorted(set(state) - {*self.state_names(), "layout"})
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no {unknown[0]!r}; it takes figure_id, {', '.join(self.state_names())}."
            )
        self.figure_id = figure_id or f"fig-{self._module.replace('_', '-')}"
        if not self.figure_id.replace("-", "").replace("_", "").isalnum() or not self.figure_id.isascii():
            raise ValueError(
                f"figure_id is {self.figure_id!r}; use letters, digits and hyphens, such as 'fig-merges-2'."
            )
        # A name of its own for each figure of a session, the same in every session: stored notebooks can be compared.
        BookWidget._shown[self.figure_id] += 1
        model_id = uuid5(NAMESPACE_URL, f"{self._module}/{self.figure_id}/{BookWidget._shown[self.figure_id]}").hex
        super().__init__(model_id=model_id, **state)

    @classmethod
    def state_names(cls) -> list[str]:
        """Name the traits that make up the figure's state: those that it and its bases up to BookWidget declare."""
        own = [base for base in cls.__mro__ if issubclass(base, BookWidget)]
        declared = [name for base in reversed(own) for name in vars(base)]
        return [name for name in cls.class_trait_names(sync=True) if name in declared and not name.startswith("_")]

    def state(self) -> dict[str, Any]:
        """Give the whole state as data that JSON can hold: trait -> value."""
        return {name: getattr(self, name) for name in sorted(self.state_names())}

    def fallback(self) -> str:
        """Say in words, and in a table where it helps, what the figure shows: HTML for readers without JavaScript."""
        raise NotImplementedError(f"{type(self).__name__} needs a fallback: what it shows, in words.")

    def twin(self) -> str:
        """Give the figure for a page without a kernel: its state as JSON, and the fallback, in one element."""
        state = json.dumps(self.state(), ensure_ascii=False, sort_keys=True, allow_nan=False).replace("<", "\\u003c")
        caption = html.escape(f"Figure {self.number}. {self.caption}" if self.number else self.caption)
        return (
            f'<div class="book-widget" data-widget="{self._module}" id="{self.figure_id}">'
            f'<script type="application/json">{state}</script>'
            f'<div class="book-widget-fallback">{self.fallback()}<p>{caption}</p></div></div>'
        )

    def __repr__(self) -> str:
        shown = (
            f"{name}={shorten(value)}" for name, value in self.state().items() if name not in ("caption", "number")
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**(data or {}), "text/plain": repr(self), "text/html": self.twin()}, metadata


def table_html(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table as HTML; every cell is text, never markup.

    >>> table_html(["id"], [["<b>"]])
    '<table><thead><tr><th scope="col">id</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def shorten(value: object, limit: int = 40) -> str:
    """A value as Python writes it, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
