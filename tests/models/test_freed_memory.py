"""Freed memory is kept for as long as a training lasts, and given back afterwards."""

from __future__ import annotations

import ctypes
import resource
import sys

import numpy as np
import pytest

from models.freed_memory import freed_memory_kept
from models.training import torch_settings

PAGE = resource.getpagesize()
BLOCK = 2**21  # numpy asks for huge pages from twice that size on
ROUNDS = 16

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc only"
)


def faults(rounds: int) -> int:
    """Return the page faults that making, filling and freeing a block so many times costs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.empty(BLOCK, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_a_block_is_made_of_the_pages_of_the_last_one() -> None:
    with freed_memory_kept():
        faults(1)
        assert faults(ROUNDS) < BLOCK // PAGE


@glibc
def test_what_is_free_is_given_back_at_the_end() -> None:
    with freed_memory_kept():
        faults(1)
    # a heap that was returned has to be filled with pages anew
    assert faults(1) >= BLOCK // PAGE // 2


@glibc
def test_a_training_keeps_its_memory() -> None:
    with torch_settings(1):
        faults(1)
        assert faults(ROUNDS) < BLOCK // PAGE


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    def none(_: object) -> object:
        raise AssertionError("no library is loaded")

    monkeypatch.setattr(ctypes, "CDLL", none)
    with freed_memory_kept():
        pass
