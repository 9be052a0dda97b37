"""Each chapter runs top to bottom in a real JupyterLab, and its figures are alive there."""

import nbformat
import pytest
from notebooks import chapter_paths

CHAPTERS = chapter_paths([])


@pytest.mark.parametrize("path", CHAPTERS, ids=[path.stem for path in CHAPTERS])
def test_chapter_runs_in_jupyterlab(open_lab, path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    figures = sum("data-widget=" in output.get("data", {}).get("text/html", "")
                  for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)  # fmt: skip
    assert figures > 0
    lab = open_lab(*cells)
    assert lab.python("answer = len(In)", seconds=300) > len(cells), "a cell before the last one failed"
    page = lab.page
    page.locator(".bw-status").nth(figures - 1).scroll_into_view_if_needed()
    assert page.locator(".bw-status").count() == figures
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count() == 0
