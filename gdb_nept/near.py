# SPDX-License-Identifier: GPL-2.0-or-later
"""Which known name somebody may have meant who wrote another."""

from __future__ import annotations

from collections.abc import Iterable


def near(written: str, names: Iterable[str]) -> str:
    """'Did you mean nept-walk?', or '' where nothing is like it."""
    from difflib import get_close_matches  # needed where something went wrong alone

    found = get_close_matches(written, list(names))
    return f"Did you mean {' or '.join(found)}?" if found else ""


def advised(written: str, names: Iterable[str], otherwise: str) -> str:
    """The same, before what is to be said in any case."""
    return f"{near(written, names)} {otherwise}".strip()
