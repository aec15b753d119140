"""How fast this machine's libraries multiply matrices on one thread: the ceilings that the screen is held against."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median as median_of
from time import perf_counter

import torch
from torch import Tensor

from benchmarks.screen_page import Turns, Work, in_turns, table
from models.inference import X86, DenseLayer, packed

WIDTH = 1024
"""Columns in and out, as in the network's widest layers."""
BATCHES = (512, 1024, 2048, 4096)
KINDS = ("fp32", "bf16", "int8")
SECONDS = 0.2
"""Length of one measurement: a single product takes milliseconds."""


@dataclass(frozen=True)
class Ceiling:
    """The fastest product of one arithmetic.

    Attributes
    ----------
    kind
        ``fp32``, ``bf16`` or ``int8``.
    name
        Library and number of rows.
    work
        Multiplies for a while and returns the FLOP.
    """

    kind: str
    name: str
    work: Work


def instructions() -> str:
    """Return which instructions for narrow numbers this processor has."""
    if platform.machine().lower() not in X86:
        return "instructions for narrow numbers: not known for this architecture"
    found = {
        "AVX-512": torch.cpu._is_avx512_supported(),
        "VNNI (int8)": torch.cpu._is_vnni_supported(),
        "AVX-512 bf16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    return ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in found.items())


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; otherwise libraries emulate it, slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def measure_ceilings(rounds: int) -> tuple[dict[str, Ceiling], str]:
    """Find the fastest library and number of rows for each arithmetic.

    Returns
    -------
    tuple
        The ceilings by arithmetic, and a table of what was measured.
    """
    works = {
        kind: {f"{library}, {batch} rows": work for batch in BATCHES for library, work in _products(kind, batch)}
        for kind in KINDS
    }
    flat = {f"{kind}: {name}": work for kind in KINDS for name, work in works[kind].items()}
    turns = in_turns(flat, rounds)
    ceilings, rows = {}, []
    for kind in KINDS:
        median = {name: turns.median(f"{kind}: {name}") for name in works[kind]}
        if not median:
            continue
        # by processor time: other work must not choose a slower product, which would be an easier ceiling
        able = {name: median_of(turns.processor[f"{kind}: {name}"]) for name in works[kind]}
        best = max(able, key=lambda name: able[name])
        square = {name: speed for name, speed in median.items() if name.endswith(f", {WIDTH} rows")}
        best_square = max(square, key=lambda name: able[name])
        ceilings[kind] = Ceiling(kind, best, works[kind][best])
        label = "bf16 (emulated)" if kind == "bf16" and not has_bf16() else kind
        rows.append(_row(label, best, median[best], best_square, median[best_square], _by_library(median)))
        print("products:", *rows[-1], sep=" | ", flush=True)
    header = (
        "arithmetic",
        "best library and rows",
        "GFLOP/s",
        f"best of {WIDTH} x {WIDTH} x {WIDTH}",
        "GFLOP/s",
        "best of each library, GFLOP/s",
    )
    return ceilings, table(header, rows)


def again(ceilings: dict[str, Ceiling], turns: Turns) -> str:
    """Return the ceilings as measured between the screens."""
    return ", ".join(f"{kind} {turns.median(kind) / 1e9:,.0f}" for kind in ceilings) + " GFLOP/s"


def _row(kind: str, best: str, speed: float, square: str, square_speed: float, others: str) -> tuple[str, ...]:
    library = square.partition(",")[0]
    return kind, best, f"{speed / 1e9:,.0f}", library, f"{square_speed / 1e9:,.0f}", others


def _by_library(median: dict[str, float]) -> str:
    best: dict[str, float] = {}
    for name, speed in median.items():
        library = name.partition(",")[0]
        best[library] = max(best.get(library, 0.0), speed)
    return ", ".join(f"{library} {speed / 1e9:,.0f}" for library, speed in best.items())


def _products(kind: str, batch: int) -> list[tuple[str, Work]]:
    """Return the libraries that multiply (batch, 1024) by (1024, 1024) in an arithmetic, as works."""
    builders = {"fp32": _fp32, "bf16": _bf16, "int8": _int8}[kind]
    found = []
    for library, build in builders(batch).items():
        try:
            product = build()
            product()
        except (RuntimeError, NotImplementedError, AttributeError) as error:
            # kernels are optional in torch's builds; what is absent sets no ceiling
            print(f"{library} does not multiply {kind} here: {str(error).splitlines()[0]}", flush=True)
            continue
        found.append((library, _repeated(product, batch)))
    return found


def _repeated(product: Callable[[], object], batch: int) -> Work:
    started = perf_counter()
    product()
    times = max(1, round(SECONDS / (perf_counter() - started)))

    def run() -> float:
        for _ in range(times):
            product()
        return 2.0 * batch * WIDTH * WIDTH * times

    return run


def _dense(batch: int, kind: torch.dtype) -> Callable[[], Callable[[], Tensor]]:
    def build() -> Callable[[], Tensor]:
        layer = packed(DenseLayer(torch.randn(WIDTH, WIDTH), torch.randn(WIDTH), False), batch, kind)
        x = torch.randn(batch, WIDTH).to(kind)
        return lambda: layer(x)

    return build


def _fp32(batch: int) -> dict[str, Callable[[], Callable[[], object]]]:
    x, w = torch.randn(batch, WIDTH), torch.randn(WIDTH, WIDTH)
    a, b = x.numpy(), w.numpy()
    return {
        "torch.mm": lambda: lambda: torch.mm(x, w),
        "numpy": lambda: lambda: a @ b,
        "oneDNN weights packed": _dense(batch, torch.float32),
    }


def _bf16(batch: int) -> dict[str, Callable[[], Callable[[], object]]]:
    x, w = torch.randn(batch, WIDTH).bfloat16(), torch.randn(WIDTH, WIDTH).bfloat16()
    return {
        "torch.mm": lambda: lambda: torch.mm(x, w),
        "oneDNN weights packed": _dense(batch, torch.bfloat16),
    }


def _int8(batch: int) -> dict[str, Callable[[], Callable[[], object]]]:
    signed = torch.randint(-127, 127, (batch, WIDTH), dtype=torch.int8)
    unsigned = torch.randint(0, 255, (batch, WIDTH), dtype=torch.uint8)
    weight = torch.randint(-127, 127, (WIDTH, WIDTH), dtype=torch.int8)
    zeros, scale = torch.zeros(WIDTH, dtype=torch.int32), torch.full((WIDTH,), 1e-3)

    def build() -> Callable[[], object]:
        prepacked = torch.ops.onednn.qlinear_prepack(weight, [batch, WIDTH])
        return lambda: torch.ops.onednn.qlinear_pointwise(
            unsigned, 1.0, 0, prepacked, scale, zeros, None, 1.0, 0, torch.uint8, "none", [], ""
        )

    return {
        "torch._int_mm (s8 x s8)": lambda: lambda: torch._int_mm(signed, weight),
        "oneDNN qlinear (u8 x s8)": build,
    }
