"""How a command ended, and what must hold where a user made a mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """Last line of the output: the path that a command prints."""
        return self.out.strip().splitlines()[-1]


Cli = Callable[..., Ended]


def assert_one_line(ended: Ended, *words: str) -> None:
    """Check that a command ended as it must on a user's mistake."""
    assert ended.code == 2, ended
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("elemscreen: ")
    assert "Traceback" not in ended.out + ended.err
    for word in words:
        assert word in lines[0]
