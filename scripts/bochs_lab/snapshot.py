# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot: memory, registers, console and facts of a machine at its park point."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from . import boot, cache, console, machine, ram
from .boot import Machine
from .errors import LabError
from .image import Image, image
from .options import LabOptions
from .progress import Progress, Silent
from .registers import registers

MEMORY = "memory.raw"
META = "meta.json"


def path_of(key: str) -> Path:
    """Where the snapshot of this key is, or would be."""
    return cache.root() / "snapshots" / key


def ensure(options: LabOptions, progress: Optional[Progress] = None, force: bool = False) -> Path:
    """The snapshot for these options.

    If there is none, it is taken from the machine that is up, if that is the one wanted, or
    else from one that is booted for it and ended.
    """
    teller = progress or Silent()
    wanted = image(options, teller)
    target = path_of(wanted.snapshot_key)

    def on_wait() -> None:
        teller.stage("another process takes this snapshot; waiting for it")

    with cache.locked("snapshot", wanted.snapshot_key, on_wait):
        if force or not target.is_dir():
            if _is_up(wanted):
                machine.ask("snapshot", teller, target=str(target))
            else:
                with boot.parked(options, wanted, teller) as booted:
                    take(booted, target, teller)
    return target


def series(
    options: LabOptions, points: Sequence[str], progress: Optional[Progress] = None
) -> dict[str, Path]:
    """The snapshots at several park points, in the order in which a run meets them.

    If one is missing, all that are missing are taken from one machine on its way.
    """
    teller = progress or Silent()
    each = [replace(options, park=point) for point in points]
    images = [image(one, teller) for one in each]
    targets = {one.park: path_of(made.snapshot_key) for one, made in zip(each, images)}
    with cache.locked("series", images[0].machine_key):
        if not all(target.is_dir() for target in targets.values()):
            with boot.parked(each[0], images[0], teller) as booted:
                for one, made in zip(each, images):
                    if booted.park != one.park:
                        boot.proceed(booted, one, made, teller)
                    _take_missing(booted, targets[one.park], teller)
    return targets


def _take_missing(parked: Machine, target: Path, progress: Progress) -> None:
    with cache.locked("snapshot", target.name):
        if not target.is_dir():
            take(parked, target, progress)


def _is_up(wanted: Image) -> bool:
    """Whether the machine that is up is the one wanted, and still stands at its park point."""
    status = machine.status()
    if status is None or status["snapshot_key"] != wanted.snapshot_key:
        return False
    return bool(status["park"] == status["options"]["park"])


def take(parked: Machine, target: Path, progress: Progress) -> None:
    """Write the snapshot of a parked machine; one that is there is replaced."""
    progress.stage("taking the snapshot")
    ram.verify(parked.ram, parked.bochs)
    with cache.creating(target) as work:
        pages = parked.ram.write_sparse(work / MEMORY)
        text = parked.console.text()
        found = console.facts(text)
        (work / "console.txt").write_text(text)
        _write_json(work / "registers.json", registers(parked.bochs))
        _write_json(work / "facts.json", list(found.objects))
        _write_json(work / META, _meta(parked, pages, found))


def _meta(parked: Machine, pages: int, found: console.Facts) -> dict[str, Any]:
    return {
        "key": parked.image.snapshot_key,
        "kernel": parked.options.kernel,
        "release": parked.image.kernel.release,
        "cmdline": parked.options.kernel_line,
        "park": parked.park,
        "memory_mib": parked.options.memory,
        "pages": pages,
        "unparsed": list(found.unparsed),
        "options": parked.options.as_json(),
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def known() -> list[Path]:
    """Every snapshot in the cache."""
    return sorted(path.parent for path in path_of("").glob(f"[!.]*/{META}"))


def summary(snapshot: Path) -> str:
    """A snapshot in a few words: the kernel, the park point, how it was started."""
    meta = json.loads((snapshot / META).read_text())
    words = [meta["release"], meta["park"]]
    words += [name for name in ("kaslr", "pti") if meta["options"][name]]
    return " ".join(words)


def copy(snapshot: Path, target: Path) -> None:
    """Copy a snapshot; its memory keeps its holes."""
    if target.exists():
        raise LabError(f"{target} exists already")
    with cache.creating(target.absolute()) as work:
        for path in snapshot.iterdir():
            _copy_sparse(path, work / path.name)


def _copy_sparse(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        for chunk in iter(lambda: reader.read(ram.BLOCK), b""):
            if chunk.count(0) == len(chunk):
                writer.seek(len(chunk), os.SEEK_CUR)
            else:
                writer.write(chunk)
        writer.truncate(reader.tell())
