"""What a disk was told, and what may be left of it when the power goes at some moment.

Owns the model of a disk: files as they were last synced, and what was written since. Metadata is kept in order up to
some moment between the last sync and the cut; data is kept as the ``Loss`` says. Must not know what the files mean.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

BLOCK = 4096
SECTOR = 512


class Op(NamedTuple):
    """One disk call that changes something; ``path`` is relative to the volume.

    ``create`` (empties what is there), ``write`` (``data`` at ``offset``), ``truncate`` (to ``offset``), ``punch``
    (``offset``, ``size``), ``rename`` (to ``target``), ``unlink``, ``sync``.
    """

    kind: str
    path: str
    offset: int = 0
    size: int = 0
    data: bytes = b""
    target: str = ""


class Loss(Enum):
    """What becomes of data that was not synced."""

    DROP = "drop unsynced"
    """Each file keeps what was written up to some moment."""
    SUBSET = "random subset"
    """Any write may be missing, whatever came after it."""
    TORN = "torn 4 KiB"
    """As SUBSET by blocks, and the last one that is kept ends at some sector."""


@dataclass(slots=True)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    since: list[Op] = field(default_factory=list)


class Disk:
    """The state after some calls; ``apply`` goes one call on, ``write_out`` is a power cut."""

    def __init__(self) -> None:
        self._names: dict[str, _File] = {}
        self._history: list[dict[str, _File]] = [{}]
        """Every state of the names since the last sync, the present one last."""

    def apply(self, op: Op) -> None:
        """Make one call."""
        if op.kind in ("create", "rename", "unlink"):
            self._rename(op)
            return
        file = self._names.get(op.path)
        if file is None:
            return
        if op.kind == "sync":
            for earlier in file.since:
                change(file.synced, earlier)
            file.since.clear()
            self._history = [self._names]
        else:
            file.since.append(op)

    def _rename(self, op: Op) -> None:
        if op.kind == "create" and op.path in self._names:
            self._names[op.path].since.append(Op("truncate", op.path))
            return
        names = dict(self._names)
        if op.kind == "create":
            names[op.path] = _File()
        elif op.path in names:
            file = names.pop(op.path)
            if op.kind == "rename":
                names[op.target] = file
        self._names = names
        self._history.append(names)

    def write_out(self, directory: Path, loss: Loss, rng: random.Random) -> None:
        """What is found below ``directory`` after the power was cut now."""
        for path, file in rng.choice(self._history).items():
            data = bytearray(file.synced)
            for op in _kept(file.since, loss, rng):
                change(data, op)
            place = directory / path
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            place.write_bytes(data)
            os.chmod(place, 0o600)


def _kept(ops: Sequence[Op], loss: Loss, rng: random.Random) -> list[Op]:
    if loss is Loss.DROP:
        return list(ops[: rng.randint(0, len(ops))])
    keep = rng.choice((0.2, 0.5, 0.9, 0.99))
    if loss is Loss.SUBSET:
        return [op for op in ops if rng.random() < keep]
    blocks = [block for op in ops for block in _blocks(op) if rng.random() < keep]
    if blocks and blocks[-1].kind == "write":
        last = blocks.pop()
        sectors = rng.randint(0, len(last.data) // SECTOR)
        blocks.append(last._replace(data=last.data[: sectors * SECTOR - last.offset % SECTOR] if sectors else b""))
    return blocks


def _blocks(op: Op) -> list[Op]:
    """A write in parts that lie within one block each."""
    if op.kind != "write":
        return [op]
    edges = [op.offset, *range(op.offset // BLOCK * BLOCK + BLOCK, op.offset + len(op.data), BLOCK)]
    ends = [*edges[1:], op.offset + len(op.data)]
    return [
        op._replace(offset=start, data=op.data[start - op.offset : stop - op.offset])
        for start, stop in zip(edges, ends, strict=True)
    ]


def change(data: bytearray, op: Op) -> None:
    """Carry one call out on a file's bytes."""
    if op.kind == "truncate":
        del data[op.offset :]
        data.extend(bytes(op.offset - len(data)))
    elif op.kind == "write":
        data.extend(bytes(max(0, op.offset + len(op.data) - len(data))))
        data[op.offset : op.offset + len(op.data)] = op.data
    elif op.kind == "punch":
        stop = min(op.offset + op.size, len(data))
        data[op.offset : stop] = bytes(max(0, stop - op.offset))
