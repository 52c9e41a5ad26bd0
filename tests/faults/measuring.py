"""Running harnesses, one after the other or beside one another: what ``python -m tests.faults`` does.

Owns the order. Not in ``__main__``, whose functions another process cannot be given.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.faults.figures import Figure, Size, table
from tests.faults.harnesses import HARNESSES, UNTIMED


def measured(name: str, size: Size) -> list[Figure]:
    """The figures of one harness, on standard error as well; one that breaks is a row that is not within its bar."""
    began_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="faults-") as directory:
            figures = asyncio.run(HARNESSES[name](Path(directory), size))
    except Exception as exc:
        traceback.print_exc()
        figures = [Figure(name, "runs to its end", f"{type(exc).__name__}: {exc}"[:120], False)]
    print(f"{table(figures)}\n{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    return figures


def all_measured(names: Sequence[str], size: Size) -> list[Figure]:
    """The figures of ``names`` in that order; what needs no quiet machine is done while ``soak`` lasts."""
    beside = [name for name in names if name in UNTIMED and size is Size.FULL and "soak" in names]
    found = {name: measured(name, size) for name in names if name not in beside and name != "soak"}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        later = {name: pool.submit(measured, name, size) for name in beside}
        if "soak" in names:
            found["soak"] = measured("soak", size)
        found |= {name: figures.result() for name, figures in later.items()}
    return [figure for name in names for figure in found[name]]
