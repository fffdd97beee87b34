# SPDX-License-Identifier: GPL-2.0-or-later
"""A model and the live L2 that it is asked about."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.address import L1Phys
from gdb_nept.arch.ept import check_physical
from gdb_nept.judge.features import is_attached, kvm_model, named_model
from gdb_nept.judge.ground import Ground, ground
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.guest_registers import GuestRegisters
from gdb_nept.nested.session import Session
from gdb_nept.predict.access import Access
from gdb_nept.predict.linear import LinearAccess, LinearPrediction, predict_linear
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Prediction
from gdb_nept.walk.guest_paging import GuestPaging


@dataclass(frozen=True)
class Oracle:
    """`doubts` are what the model assumes without knowing, and what EPT12 may not be."""

    base: Ground
    model: Model
    doubts: tuple[str, ...]

    @property
    def refusal(self) -> str:
        """Why VM entry fails by the model, so that no L2 runs so; '' if it does not."""
        base = self.base
        return self.model.refuses(base.eptp, base.cpu, base.controls)

    def refuses(self, registers: GuestRegisters, user: bool) -> str:
        """The same of L2 with these registers, at CPL 3 if `user`."""
        return self.refusal or registers.refusal(user)

    def physical(self, access: Access) -> Prediction[L1Phys]:
        """Raises BadInput for an address that is no physical one."""
        check_physical(access.gpa)
        return self.base.predict(access, self.model)

    def linear(self, access: LinearAccess, paging: GuestPaging) -> LinearPrediction:
        base = self.base
        return predict_linear(
            base.memory, base.eptp, access, paging, base.cpu, base.controls, self.model
        )


def oracle(session: Session, chosen: Chosen, name: str) -> Oracle:
    """Raises BadInput for a model that there is not, NoGuest where L1 runs no L2 with EPT."""
    model = named_model(session, chosen, name)
    doubts = kvm_model(session, chosen).doubts if is_attached(name) else ()
    base = ground(session, chosen)
    return Oracle(base, model, (*base.caveats, *doubts))
