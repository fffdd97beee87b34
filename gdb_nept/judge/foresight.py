# SPDX-License-Identifier: GPL-2.0-or-later
"""What every access to a place must lead to, by every model that is asked for.

There are some twenty accesses and over fifty models, and most faults need two models: so an access
is put to a model when that is first looked at.  The tables are those that stood at the beginning
all the same: they are read then, and nothing is read after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from gdb_nept.address import L1Phys, L2Virt
from gdb_nept.judge.candidates import Link, Place, Seen, candidates
from gdb_nept.judge.ground import Ground
from gdb_nept.predict.access import Access
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Prediction


@dataclass(frozen=True)
class Foreseen:
    """An access, and what a model says of it."""

    access: Access
    prediction: Prediction[L1Phys]


class Foresight(Mapping[str, "tuple[Foreseen, ...]"]):
    """By the name of the model, one for each of `accesses`."""

    def __init__(
        self, base: Ground, accesses: Iterable[Access], models: Mapping[str, Model]
    ) -> None:
        self._base = base
        self._models = models
        self._asked = {access: access for access in accesses}
        self._known: dict[tuple[str, Access], Prediction[L1Phys]] = {}

    def __getitem__(self, name: str) -> tuple[Foreseen, ...]:
        return tuple(self.of(name, access) for access in self._asked)

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def of(self, name: str, access: Access) -> Foreseen:
        """One of the accesses, by one of the models."""
        asked = self._asked[access]
        found = self._known.get((name, asked))
        if found is None:
            found = self._known[name, asked] = self._base.predict(asked, self._models[name])
        if access is not asked and found.gla is not None:
            found = replace(found, gla=access.gla)
        return Foreseen(access, found)

    def predict(self, *names: str) -> None:
        """Now, and not only when they are looked at."""
        for name in names:
            for access in self._asked:
                self.of(name, access)

    def told(self, gla: L2Virt | None) -> Foresight:
        """With the guest-linear address that is known now, where the field is defined."""
        return self._like({replace(shown, gla=gla): asked for shown, asked in self._asked.items()})

    def made_by_emulator(self, emulated: bool) -> Foresight:
        """Of the accesses of L0's emulator, or of the processor, alone."""
        return self._like(
            {shown: asked for shown, asked in self._asked.items() if shown.emulated is emulated}
        )

    def _like(self, asked: dict[Access, Access]) -> Foresight:
        """With other accesses; what is known already is shared."""
        other = Foresight(self._base, (), self._models)
        other._asked, other._known = asked, self._known
        return other


def foresee(
    base: Ground, place: Place, link: Link, models: Iterable[Model], seen: Seen | None = None
) -> Foresight:
    """What each candidate access leads to, by each model, over the tables as they stand now."""
    accesses = candidates(place, link, seen, base.pae)
    return Foresight(base.standing(place.gpa), accesses, {model.name: model for model in models})
