"""A pytest plugin for nbval: a chapter that takes longer than its limit fails the run."""

from collections import Counter

LIMIT_SECONDS = 90  # on two cores; what takes longer belongs into llmlib.experiments
_seconds = Counter()


def pytest_runtest_logreport(report):
    _seconds[report.nodeid.split("::")[0]] += report.duration


def _too_slow() -> list[str]:
    return [f"{name} took {s:.0f} s, over {LIMIT_SECONDS} s" for name, s in _seconds.items() if s > LIMIT_SECONDS]


def pytest_sessionfinish(session):
    if _too_slow():
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    for name, seconds in _seconds.items():
        terminalreporter.write_line(f"{seconds:6.1f} s  {name}")
    for line in _too_slow():
        terminalreporter.write_line(f"FAILED {line}", red=True)
