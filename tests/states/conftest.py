# SPDX-License-Identifier: GPL-2.0-or-later
"""The fixture behind `@at(...)` of opened.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.states.opened import State, opened


@pytest.fixture
def state(request: pytest.FixtureRequest, states: dict[str, Path]) -> State:
    return opened(request.param, states[request.param], states["done"])
