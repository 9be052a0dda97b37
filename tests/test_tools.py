"""The commands behind the Makefile: when something is missing or taken, one clear sentence and a non-zero exit."""

import re
import socket
import subprocess
import sys
from collections import namedtuple

import benchmarks
import pytest
import setup
from notebooks import ROOT


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """setup.py pointed at an empty folder, where nothing is installed."""
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(setup, "ROOT", str(tmp_path))
    monkeypatch.setattr(setup, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(setup, "PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    return tmp_path


def sentence_of(stopped, capsys) -> str:
    assert stopped.value.code == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("Stopped: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 15, 0)])
def test_unsupported_interpreter(version, checkout, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as stopped:
        setup.set_up_packages()
    assert "needs Python 3.11 to 3.14" in sentence_of(stopped, capsys)
    assert not (checkout / ".venv").exists()


def test_another_interpreter_on_the_path_is_used(checkout, monkeypatch):
    other = checkout / "python3.12"
    other.write_text("#!/bin/sh\nexit 0\n")
    other.chmod(0o755)
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", str(checkout))
    assert setup.suitable_interpreter() == str(other)


def test_full_disk(checkout, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(setup.shutil, "disk_usage", lambda path: usage(2**40, 2**40 - 2**30, 2**30))
    with pytest.raises(SystemExit) as stopped:
        setup.set_up_packages()
    assert "make room" in sentence_of(stopped, capsys)
    assert not (checkout / ".venv").exists()


def test_failed_installation_is_not_taken_for_done(checkout, monkeypatch, capsys):
    """pip fails: the next run starts over, since the mark that says "installed" was not written."""
    commands = []
    monkeypatch.setattr(setup.subprocess, "call", lambda command, **_: commands.append(command) or len(commands) > 1)
    with pytest.raises(SystemExit) as stopped:
        setup.set_up_packages()
    assert "pip could not install" in sentence_of(stopped, capsys)
    with pytest.raises(SystemExit):
        setup.set_up_packages()
    assert len(commands) == 3
    assert "--clear" in commands[0]


def test_nothing_is_installed_a_second_time(checkout, monkeypatch):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    commands = []
    monkeypatch.setattr(setup.subprocess, "call", lambda command, **_: commands.append(command))
    setup.set_up_packages()
    (checkout / ".venv" / "bin" / "python").touch()
    first = len(commands)
    setup.set_up_packages()
    assert first == len(commands) == 3
    (checkout / "requirements.txt").write_text("numpy\n")
    setup.set_up_packages()
    assert len(commands) == 6


def test_no_browser_to_be_had(checkout, monkeypatch, capsys):
    monkeypatch.setattr(setup, "find_browser", lambda: None)
    monkeypatch.setattr(setup.subprocess, "call", lambda *_, **__: 1)
    with pytest.raises(SystemExit) as stopped:
        setup.set_up_browser()
    assert "BOOK_BROWSER" in capsys.readouterr().err
    assert stopped.value.code == 1


def run_tool(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", ["site", "lab"])
def test_port_that_is_taken(what):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run = run_tool("tools/serve.py", what, "--port", str(port))
    assert run.returncode == 1
    assert run.stderr.startswith(f"Stopped: port {port} is taken")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("tools/notebooks.py", "cooking"),
        ("tools/check.py", "--chapter", "cooking"),
        ("tools/bench.py", "cooking"),
        ("tools/serve.py", "site", "--port", "70000"),
        ("tools/setup.py",),
    ],
)
def test_unknown_name_or_number(arguments):
    run = run_tool(*arguments)
    assert run.returncode == 1
    assert run.stderr.strip().startswith("Stopped: ")
    assert "Traceback" not in run.stderr


def without_plots(page: str) -> str:
    return re.sub("<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_page_of_measurements_shows_the_records():
    assert without_plots(benchmarks.page()) == without_plots(benchmarks.PAGE.read_text(encoding="utf-8"))


def test_the_page_knows_bandwidth_and_knee_from_the_records_of_writing():
    """By hand: a step in mid-text, 4 + 8 / 2 positions, has 100 + 8 * 10 bytes; 50 of them a second are 9000 bytes."""
    record = {
        "rows": [
            {"what": "greedy, 1M, 8 tokens after 4", "peers": {"transformers": 3}},
            {"what": "greedy, 1M, 8 tokens after 4", "peers": {"limit": 50}},
        ],
        "lengths": {"1M": [{"length": 2, "bytes": 120}, {"length": 32, "bytes": 420}]},
        "length_fits": {"1M": {"seconds_at_0": 0.2, "seconds_per_position": 0.002}},
    }
    assert benchmarks.bandwidth(record) == pytest.approx(9000)
    words = benchmarks.speed_by_length(record)
    assert "256%" in words  # 256 * 0.002 / 0.2
    assert "1.8x" in words  # 10 bytes at 9000 bytes/s are 1.1 ms, beside 2 ms
    for speeds, batch in (([10, 19, 22, 30, 33, 34], 8), ([10, 11, 12], 1), ([10, 12, 15], 4)):
        points = [{"batch": 2**i, "tokens_per_second": speed} for i, speed in enumerate(speeds)]
        assert benchmarks.knee(points)["batch"] == batch  # the dip at 4 texts is no knee; all later gains are below 20%


def row_of_training(**changes):
    """3 FLOP a token at 100 tokens/s, where the machine has 1000 FLOP/s and the reference makes 200 tokens/s."""
    speeds = {"llmlib": 100, "flops_per_s": 300, "peak_flops_per_s": 1000, "peers": {"transformers float32": 200}}
    return {"what": "train 1M, float32", "threads": 1, "target": ">= 1.5x transformers float32"} | speeds | changes


def test_targets_are_set_against_what_the_machine_can_do():
    assert benchmarks.needed(row_of_training()) == pytest.approx(0.9)  # 1.5 x 200 tokens/s x 3 FLOP of 1000 FLOP/s
    assert benchmarks.needed(row_of_training(target="")) is None
    assert benchmarks.needed(row_of_training(what="train 1M, bfloat16")) is None  # against float32's peak: no share
    words = [benchmarks.what_targets_ask([row_of_training(peak_flops_per_s=peak)]) for peak in (1000, 960, 800)]
    assert all("to train 1M in float32 with 1 thread" in text for text in words)
    assert ["leave" in text for text in words] == [False, True, False]  # 0.9, 0.9375, 1.125
    assert ["more than this machine can do" in text for text in words] == [False, False, True]
