# SPDX-License-Identifier: GPL-2.0-or-later
"""What every access to a place must lead to, by every model that is asked for.

There are some twenty accesses and over fifty models, and most faults need two models, the second of
them for the access that was made alone: so an access is put to a model when that is first looked
at.  The tables are those that stood at the beginning all the same: they are read then, and nothing
is read after that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gdb_nept.address import L1Phys, L2Virt
from gdb_nept.judge.candidates import Link, Place, Seen, candidates
from gdb_nept.judge.ground import Ground
from gdb_nept.predict.access import Access
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Prediction


@dataclass(frozen=True)
class Foreseen:
    """An access, the `number`th of the candidates, and what a model says of it."""

    access: Access
    prediction: Prediction[L1Phys]
    number: int


class Foresight(Mapping[str, "tuple[Foreseen, ...]"]):
    """By the name of the model, one for each of `accesses`."""

    def __init__(
        self, base: Ground, accesses: tuple[Access, ...], models: Mapping[str, Model]
    ) -> None:
        self._base = base
        self._models = models
        self._accesses = accesses
        self._known: dict[tuple[str, int], Prediction[L1Phys]] = {}

    def __getitem__(self, name: str) -> tuple[Foreseen, ...]:
        return tuple(self.of(name, number) for number in range(len(self._accesses)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def of(self, name: str, number: int) -> Foreseen:
        """One of the accesses, by one of the models."""
        access = self._accesses[number]
        found = self._known.get((name, number))
        if found is None:
            found = self._known[name, number] = self._base.predict(access, self._models[name])
        if found.gla not in (None, access.gla):
            found = replace(found, gla=access.gla)
        return Foreseen(access, found, number)

    def predict(self, name: str) -> None:
        """Now, and not only when they are looked at."""
        for number in range(len(self._accesses)):
            self.of(name, number)

    def told(self, gla: L2Virt | None) -> Foresight:
        """With the guest-linear address that is known now, where the field is defined."""
        told = tuple(replace(access, gla=gla) for access in self._accesses)
        other = Foresight(self._base, told, self._models)
        other._known = self._known  # which is shared
        return other


def foresee(
    base: Ground,
    place: Place,
    link: Link,
    models: Mapping[str, Model],
    seen: Seen | None = None,
    by_emulator: tuple[bool, ...] = (False, True),
) -> Foresight:
    """What each candidate access leads to, by each model, over a `base` that stands (Ground)."""
    accesses = tuple(candidates(place, link, seen, base.pae, by_emulator))
    return Foresight(base, accesses, models)
