# SPDX-License-Identifier: GPL-2.0-or-later
"""Values of a request, each named when it is bad."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, TypeVar

from gdb_nept.errors import BadInput

Object = Mapping[str, object]
Choice = TypeVar("Choice", bound=Enum)

LARGEST = (1 << 64) - 1
SHOWN = 60  # characters of a bad value that an error repeats


def number_in(holder: Object, key: str, otherwise: int | None = None) -> int:
    """null is the same as no such key where it may be left out."""
    given = holder.get(key)
    if given is None:
        if otherwise is not None:
            return otherwise
        if key not in holder:
            raise BadInput(f"{key}: missing")
    return parsed(given, key)


def parsed(given: object, name: str) -> int:
    """A 64-bit number, or a text of one ("0x12", "18"); `name` is that of its key."""
    number = given
    if isinstance(given, str) and given.isascii() and given.isalnum():  # no " 5", "+5", "5_0"
        try:
            number = int(given, 0)
        except ValueError:
            raise BadInput(f"{name}: {shown(given)} is not a number") from None
    if type(number) is not int:  # true and false are ints to isinstance()
        raise BadInput(f"{name}: {shown(given)} is not a number")
    if not 0 <= number <= LARGEST:
        raise BadInput(f"{name}: {shown(given)} is not a 64-bit number")
    return number


def numbers(given: Mapping[str, Any], name: str) -> dict[int, int]:
    """64-bit numbers by 64-bit numbers; `name` is that of the keys, and a key that of its value.

    Nearly always all are good texts, and looked at together; else each by itself.
    """
    try:
        together = "".join([*given, *given.values()])
        if together.isascii() and together.isalnum():
            found = {int(key, 0): int(value, 0) for key, value in given.items()}
            if max(found) <= LARGEST and max(found.values()) <= LARGEST:
                return found
    except (TypeError, ValueError):
        pass
    return {parsed(key, name): parsed(value, key) for key, value in given.items()}


def shown(given: object) -> str:
    """A bad value as an error repeats it."""
    text = repr(given)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The object_pairs_hook of a JSON decoder, which would take the last of two values."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice, times = Counter(key for key, _ in pairs).most_common(1)[0]
    raise BadInput(f"{shown(twice)}: given {times} times in one object")


def truth(holder: Object, key: str, otherwise: bool = False) -> bool:
    """null is the same as no such key."""
    given = holder.get(key)
    if given is None:
        return otherwise
    if not isinstance(given, bool):
        raise BadInput(f"{key}: {shown(given)} is neither true nor false")
    return given


def choice(
    holder: Object, key: str, known: Mapping[str, Choice], otherwise: Choice | None = None
) -> Choice:
    """What `known` has by the name that stands there."""
    given = holder.get(key)
    if given is None and otherwise is not None:
        return otherwise
    if not isinstance(given, str) or given not in known:
        raise BadInput(f"{key}: {shown(given)} is none of {', '.join(known)}")
    return known[given]


def object_in(holder: Object, key: str, otherwise: Object | None = None) -> Object:
    """A JSON object."""
    given = holder.get(key)
    if given is None and otherwise is not None:
        return otherwise
    if not isinstance(given, dict):
        raise BadInput(f"{key}: {'missing' if given is None else 'not an object'}")
    return given


def others(given: Object, known: Collection[str], name: str) -> list[str]:
    """The keys that we do not know: told in the answer, since one may be a known one misspelt."""
    return [f"{name}.{key}"[:SHOWN] for key in given if key not in known]
