"""A function in a child process of its own, so that a call that hangs or crashes ends alone.

Dask's workers may not start children of `multiprocessing` (they are daemons), and a thread cannot be ended: hence a
plain subprocess, ``python -m tasks.child``, that reads one JSON text per line and answers one JSON object per line.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

START_S = 300.0
"""Seconds that a child may take to load what it needs, on a busy machine."""
GRACE_S = 10.0
"""Seconds beyond the limit after which a child ends itself: its parent may be gone."""
TRIES = 2
"""A call whose process dies is made again: what killed it may have had nothing to do with the call."""


@dataclass(frozen=True)
class Work:
    """What a child does.

    Attributes
    ----------
    function
        ``package.module:name`` of a function from text to anything JSON can say.
    prepare
        Likewise a function without arguments, called before the first limit starts to count.
    """

    function: str
    prepare: str | None = None


class ChildError(RuntimeError):
    """A child that does not start."""


class Child:
    """A process that answers one call at a time; used as a context, it is gone when the context ends.

    Parameters
    ----------
    work
        What it does.
    limit_s
        Seconds per call.
    """

    def __init__(self, work: Work, limit_s: float) -> None:
        self.work = work
        self.limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, text: str) -> tuple[Any, str | None]:
        """Call the function.

        Returns
        -------
        value
            What it returned; None when there is a reason.
        reason
            Why there is no value: it refused, took too long and was killed, or its process died.

        Raises
        ------
        ChildError
            When no child can be started at all.
        """
        ending = ""
        for _ in range(TRIES):
            answer = self._call(text)
            if answer is None:
                self._end()
                return None, f"took longer than {self.limit_s:g} s and was ended; allow more time or give a smaller one"
            if answer:
                reply = json.loads(answer)
                return reply.get("value"), reply.get("reason")
            ending = self._end()
        return None, f"its process died {TRIES} times ({ending}); look for its memory or give a smaller one"

    def _call(self, text: str) -> bytes | None:
        """Return the answer; nothing when the process died, None when the time was up."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(text).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        return self._line(process, self.limit_s)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tasks.child", self.work.function, self.work.prepare or "", str(self.limit_s)]
        self._buffer = b""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # Ctrl-C is the parent's to answer
        )
        if not self._line(self._process, START_S):
            raise ChildError(f"a process for {self.work.function} did not start ({self._end()}); see its error output")
        return self._process

    def _line(self, process: subprocess.Popen[bytes], limit_s: float) -> bytes | None:
        assert process.stdout is not None
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    return b""
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _end(self) -> str:
        """Kill the process, if there is one, and return how it ended."""
        process, self._process = self._process, None
        if process is None:
            return ""
        try:
            code = process.wait(0.2)  # one that died by itself says how
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait(60)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of a question that it did not live to read
                    pipe.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def find(name: str) -> Callable[..., Any]:
    """Return the function that ``package.module:name`` means."""
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def serve(function: Callable[[str], Any], limit_s: float, questions: Any, answers: Any) -> None:
    """Answer calls until there are no more: the life of a child."""
    answers.write("{}\n")  # ready
    answers.flush()
    for line in questions:
        # not even an orphan stuck in compiled code, where Python sees no signal, outlives its limit by much
        signal.setitimer(signal.ITIMER_REAL, limit_s + GRACE_S)
        try:
            reply = json.dumps({"value": function(json.loads(line))})
        except Exception as error:
            text = " ".join(str(error).split())
            # bad input has its remedy in the message; anything else at least its type
            reply = json.dumps({"reason": text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"})
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(reply + "\n")
        answers.flush()


def main() -> None:
    """Serve the function named on the command line."""
    function, prepare, limit_s = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    found = find(function)
    if prepare:
        find(prepare)()
    serve(found, float(limit_s), sys.stdin, answers)


if __name__ == "__main__":
    main()
