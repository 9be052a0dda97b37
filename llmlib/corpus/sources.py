"""Real text: what the running Python says about itself, your own files, and data sets from the Hugging Face hub."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

SEPARATOR = "\n\n"
TEXT_SUFFIXES = frozenset(
    [
        ".txt", ".text", ".md", ".markdown", ".rst", ".org", ".tex", ".bib", ".csv", ".tsv", ".json", ".jsonl",
        ".yaml", ".yml", ".toml", ".ini", ".cfg", ".xml", ".html", ".htm", ".css", ".js", ".ts", ".py", ".pyi",
        ".ipynb", ".c", ".h", ".cpp", ".hpp", ".java", ".go", ".rs", ".rb", ".sh", ".sql", ".r", ".jl", ".lua",
        ".log", ".srt",
    ]
)  # fmt: skip
# Tables, bundled copies, tests, and the sources of the reference topics (read as topics instead).
SKIPPED = frozenset(
    [
        "site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo", "lib2to3", "ensurepip",
        "encodings", "pydoc_data", "__pycache__", "_vendor", "_pyrepl",
    ]
)  # fmt: skip
# What notebooks, debuggers and profilers replace while they run, so that its documentation comes and goes.
REPLACED = frozenset(
    [
        "builtins.__import__", "builtins.breakpoint", "builtins.input", "builtins.open", "builtins.print",
        "sys.setprofile", "sys.settrace", "_thread.start_new", "_thread.start_new_thread",
    ]
)  # fmt: skip
REPLACED_MODULES = frozenset(["faulthandler"])
TOO_LITTLE = 100_000


def _library() -> Iterator[tuple[Path, bytes]]:
    """The standard library's source files in order of their paths, without those skipped."""
    root = Path(sysconfig.get_path("stdlib"))
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and not f.startswith(("config-", "plat-")))
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                path = Path(folder, name)
                yield path, path.read_bytes()


def _docstrings(node: ast.AST) -> Iterator[str]:
    """The docstrings of a module and of everything defined in it, in the order of the source."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
        doc := ast.get_docstring(node)
    ):
        yield doc
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _docstrings(child)


def _compiled_docs() -> Iterator[str]:
    """The docstrings of what is written in C: built-in types and functions, and modules inside the interpreter."""
    written_in_c = (inspect.isclass, inspect.isbuiltin, inspect.isroutine, inspect.isdatadescriptor)
    for name in ["builtins", *sorted(set(sys.builtin_module_names) - {"builtins", "__main__"} - REPLACED_MODULES)]:
        module = importlib.import_module(name)
        owners = [module, *(v for _, v in sorted(vars(module).items()) if inspect.isclass(v) and v.__module__ == name)]
        for owner in owners:
            members = sorted(key for key in vars(owner) if owner is not module or f"{name}.{key}" not in REPLACED)
            for thing in [owner, *map(vars(owner).__getitem__, members)]:
                # A notebook or a shell adds things of its own to the built-in names: they are written in Python.
                native = thing is owner or (
                    any(is_kind(thing) for is_kind in written_in_c)
                    and not inspect.isfunction(thing)
                    and not inspect.ismethod(thing)
                    and (not inspect.isclass(thing) or thing.__module__ in sys.builtin_module_names)
                )
                if native and isinstance(doc := thing.__doc__, str):
                    yield inspect.cleandoc(doc)


def _topics() -> list[str]:
    """The language reference that `help("assert")` prints, a text a topic; none where the interpreter has none."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        return []
    return [topics[name] for name in sorted(topics)]


@lru_cache(maxsize=1)
def python_docs() -> str:
    """Python's reference topics and the docstrings of its standard library: 2 to 3 MB of English, with some code in it.

    Nothing is downloaded, and modules written in Python are read, not imported. Each text appears once; texts are
    joined by a blank line. The same interpreter gives the same text each time, in a script and in a notebook: the few
    built-in functions that tools put their own in place of are left out. An interpreter without the topics or without
    its library's sources gives a smaller text.

    >>> docs = python_docs()
    >>> len(docs) > 1_000_000, "The \\"assert\\" statement" in docs
    (True, True)

    Raises RuntimeError if this interpreter carries hardly any documentation.
    """
    texts = dict.fromkeys(_topics())
    for _, source in _library():
        try:
            tree = ast.parse(source)
        except SyntaxError:  # a template or a file for another version
            continue
        texts.update(dict.fromkeys(_docstrings(tree)))
    texts.update(dict.fromkeys(_compiled_docs()))
    docs = SEPARATOR.join(text.strip() for text in texts if text.strip())
    if len(docs) < TOO_LITTLE:
        raise RuntimeError(
            f"This Python carries only {len(docs)} characters of documentation, too little to train on: "
            "use a Python from python.org or your system, or give a text of your own to load_text()."
        )
    return docs


@lru_cache(maxsize=1)
def python_source() -> str:
    """The source code of the standard library: 8 MB of Python in order of the files' paths, joined by a blank line.

    >>> "def python_source" in python_source(), "import os" in python_source()
    (False, True)

    Raises RuntimeError if this interpreter comes without its library's sources.
    """
    source = SEPARATOR.join(data.decode("utf-8", "replace").replace("\r\n", "\n") for _, data in _library())
    if len(source) < TOO_LITTLE:
        where = sysconfig.get_path("stdlib")
        raise RuntimeError(
            f"This Python comes without its library's sources ({where} has none): use load_text() instead."
        )
    return source


def load_text(path: str | os.PathLike) -> str:
    """The text of a file, or of all text files in a folder and its subfolders.

    A file is read whatever its name ends in; in a folder, those with one of `TEXT_SUFFIXES`, in order of their paths,
    hidden ones and links to folders left out, joined by a blank line. Text is UTF-8; a byte order mark is dropped,
    nothing else.

    Raises OSError (FileNotFoundError, PermissionError, ...) or ValueError, with a sentence that says which file, where,
    and what to do.
    """
    if not os.fspath(path):
        raise ValueError("The path is empty: give the name of a file or folder ('.' is the working folder).")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {str(path)!r} (looked from {str(Path.cwd())!r}).")
    if not path.is_dir():
        text = _read(path)
        if not text.strip():
            raise ValueError(f"The file {str(path)!r} is empty: there is no text to learn from.")
        return text
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in TEXT_SUFFIXES:
                found.append(Path(folder, name))
    texts = [text for file in sorted(found) if (text := _read(file)).strip()]
    if not texts:
        raise ValueError(
            f"The folder {str(path)!r} holds no text: no file that ends in .txt, .md, .py and is not empty. "
            "To read a file with another ending, give its own path."
        )
    return SEPARATOR.join(texts)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{str(path)!r} is a link that leads to no file: mend it or take it out of the folder."
        ) from None
    except OSError as error:
        raise type(error)(f"The file {str(path)!r} cannot be read: {error.strerror}.") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"The file {str(path)!r} is UTF-16 (its first two bytes say so): save it as UTF-8.")
    if (nul := data.find(b"\0")) >= 0:
        raise ValueError(f"The file {str(path)!r} is not text: it has a zero byte at offset {nul}. Give a text file.")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise ValueError(
            f"The file {str(path)!r} is not valid UTF-8: byte 0x{byte:02x} at offset {error.start} ({error.reason}). "
            "Save it as UTF-8, or convert it from the encoding it is in."
        ) from None


def hub_texts(name: str, split: str = "train", field: str = "text") -> Iterator[str]:
    """The texts of a data set on the Hugging Face hub, streamed one after another, such as "roneneldan/TinyStories".

    Needs internet and the package `datasets`, which this book does not install.

    Raises RuntimeError without the package, and ValueError if the data set cannot be opened or has no such field of
    text.
    """
    try:
        load_dataset = importlib.import_module("datasets").load_dataset
    except ImportError:
        raise RuntimeError(
            "Reading a data set from the hub needs the package datasets: install it with `pip install datasets`."
        ) from None
    try:
        rows = load_dataset(name, split=split, streaming=True)
    except Exception as error:
        raise ValueError(f"The data set {name!r} (split {split!r}) cannot be opened: {error}") from error
    return _texts(rows, name, field)


def _texts(rows: Iterator[dict], name: str, field: str) -> Iterator[str]:
    for row in rows:
        if not isinstance(row.get(field), str):
            fields = sorted(key for key, value in row.items() if isinstance(value, str))
            raise ValueError(f"The data set {name!r} has no field {field!r} of text; fields of text: {fields}.")
        yield row[field]
