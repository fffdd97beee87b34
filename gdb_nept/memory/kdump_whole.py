# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a kdump-compressed dump is all there; the library gives zeros for what is not.

makedumpfile's diskdump_mod.h (struct disk_dump_header, kdump_sub_header, page_desc) and
IMPLEMENTATION; makedumpfile.h (struct makedumpfile_data_header: the last one is all ones).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

HEADER = struct.Struct("<8si")  # signature, version
SIZES = struct.Struct("<iiI")  # block_size, sub_hdr_size, bitmap_blocks
SIZES_AT = 428  # behind utsname (6 * 65 bytes), the time and the status
DESCRIPTOR = struct.Struct("<QIIQ")  # offset, size, flags, page_flags
LAST = 1 << 16  # descriptors looked at: pages of zeros share one that lies early
LARGEST_BITMAP = 1 << 30
END = struct.pack(">qq", -1, -1)


def flattened_is_cut(path: Path) -> bool:
    """It ends with a header that says so."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(END)))
        return file.read(len(END)) != END


def kdump_is_cut(path: Path) -> bool:
    """Whether the data of the last pages lies behind the end of the file."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(SIZES_AT)
        sizes = file.read(SIZES.size)
        if len(sizes) < SIZES.size:
            return True
        block, sub_header, blocks = SIZES.unpack(sizes)
        if block not in (4096, 8192, 16384, 65536) or not 0 < blocks * block <= LARGEST_BITMAP:
            return False  # damaged, which the library tells
        bitmap = (1 + sub_header) * block
        pages = bitmap + blocks * block
        file.seek(bitmap + blocks * block // 2)
        present = bin(int.from_bytes(file.read(blocks * block // 2), "little")).count("1")
        first = max(0, present - LAST)
        file.seek(pages + first * DESCRIPTOR.size)
        data = file.read((present - first) * DESCRIPTOR.size)
        if len(data) < (present - first) * DESCRIPTOR.size:
            return True
        ends = (offset + size for offset, size, _, _ in DESCRIPTOR.iter_unpack(data))
        return max(ends, default=0) > end
