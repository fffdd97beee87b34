# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU that stands just after an EPT exit, to be watched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.scene import Scene
from tests.overlay import Overlay, opened


@pytest.fixture
def scene(exit_snapshot: Path) -> Scene:
    session, chosen = opened(exit_snapshot)
    memory = session.kernel.physical
    assert isinstance(memory, Overlay)
    return Scene(session, chosen, memory, session.vmcs12(chosen))
