# SPDX-License-Identifier: GPL-2.0-or-later
"""That each finding is one: seen, other than the SDM has it, and as our model of Bochs says."""

from __future__ import annotations

import pytest
from bochs_lab.emulator import Emulator
from bochs_lab.errors import BootFailed

from gdb_nept.predict.case import Deviation
from tests.features.cases import LA57, Cases
from tests.features.run import run
from tests.findings.bochs import FINDINGS, one
from tests.findings.told import shown
from tests.guests.generate import SMALL_PAGE, landscape
from tests.guests.scenarios import READ

pytestmark = pytest.mark.bochs


def test_every_finding_is_a_named_rule() -> None:
    assert {one.rule for one in FINDINGS} <= {each.name for each in Deviation}


@pytest.mark.parametrize("emulator", [Emulator(), Emulator("3.0", "tigerlake")], ids=["2.7", "3.0"])
def test_each_is_shown(emulator: Emulator) -> None:
    found = shown(emulator)
    assert len(found) >= 5
    for each in found:
        assert each.differs, each
        assert not each.unlike_model, each


def test_a_guest_with_la57_unlike_the_host_ends_bochs() -> None:
    """vmx.cc VMenterLoadCheckGuestState() asks check_CR4() (crregs.cc), which refuses to change
    CR4.LA57 while EFER.LMA is set, and takes the host's for it.  SDM vol. 3, 29.3.1.1 has no such
    check: host and guest may differ."""
    s = Cases()
    landscape(s)
    s.put(one("la57", READ, SMALL_PAGE, [], features=LA57))
    s.finish(None)
    with pytest.raises(BootFailed, match="VMENTER CR4 is broken"):
        run(s, emulator=Emulator("3.0", "sapphire_rapids"), words="unlike=1")
