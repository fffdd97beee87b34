# SPDX-License-Identifier: GPL-2.0-or-later
"""Sourced by a gdb that has our commands: from now on Ctrl-C comes whenever gdb lets its target
run, just before gdb tells us so.

By a function that is not Python's, so that it is what is called next that is broken off.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import gdb

from gdb_nept.target.gdb.events import GdbEvents

ring: Any = ctypes.PyDLL(None).PyErr_SetInterrupt
ring.argtypes, ring.restype = [ctypes.py_object], None
of_gdb: Any = gdb.events
ours = [each for each in gc.get_objects() if isinstance(each, GdbEvents)]
assert ours
for each in ours:
    each.close()
of_gdb.cont.connect(ring)
for each in ours:
    each.listen()
