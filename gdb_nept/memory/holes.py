# SPDX-License-Identifier: GPL-2.0-or-later
"""Which parts of a file are no holes, which read as zero (lseek(2), SEEK_DATA)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from gdb_nept.memory.reader import PAGE_SIZE


def data_of(path: Path, start: int, stop: int, most: int) -> list[range]:
    """Of the bytes `start` up to `stop` of the file, whole pages counted from `start`; at most
    `most` stretches, and one more for the rest."""
    found: list[range] = []
    end = start
    try:
        with path.open("rb") as file:
            while end < stop and len(found) < most:
                first = os.lseek(file.fileno(), end, os.SEEK_DATA)
                if first >= stop:
                    return found
                end = min(os.lseek(file.fileno(), first, os.SEEK_HOLE), stop)
                end += min(-(end - start) % PAGE_SIZE, stop - end)
                found.append(range(first - (first - start) % PAGE_SIZE, end))
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return found
        return [range(start, stop)]  # a file system without holes
    if end < stop:
        found.append(range(end, stop))
    return found
