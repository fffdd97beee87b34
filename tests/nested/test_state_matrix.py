# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kind of state is put to walk, predict, check and ept: each answers as the tables below say,
and no two contradict each other.

A state is one kind of each dimension: EPT12's entries, the memslot that they lead to, what KVM
shadows, whether it knows L1's table to be out of sync, and EPT02's root.  What is right stands in
two tables, whose rows name the function of arch/x86/kvm that makes it so: EXITS, by EPT12 alone,
for the exit of an access; VERDICTS, the first row that fits, for the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path

import pytest

from gdb_nept.address import L1Phys
from gdb_nept.arch.ept import EptEntry
from gdb_nept.judge.check import Finding
from gdb_nept.judge.check import check as run_check
from gdb_nept.judge.oracle import oracle
from gdb_nept.kvm.visible import hidden_from_l2
from gdb_nept.nested.agreement import Agreement, Fault, Verdict
from gdb_nept.nested.derived_rows import DerivedRun
from gdb_nept.nested.epts import Which
from gdb_nept.nested.listing import Row as Listed
from gdb_nept.nested.listing import listing
from gdb_nept.nested.verdict import verdict
from gdb_nept.nested.wording import allowed_by
from gdb_nept.predict.access import Access, Op
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.render.check import check_page
from gdb_nept.render.ept import ept_page
from gdb_nept.render.journey import journey_page
from gdb_nept.render.prediction import prediction_page
from gdb_nept.walk.runs import Hole, Unread
from tests.nested.states import ADDRESS, HOLE_OF_L1, INVALID_SLOT, Machine, Word

pytestmark = pytest.mark.bochs

W, X = EptEntry.write.mask, EptEntry.execute.mask
A, D = EptEntry.accessed.mask, EptEntry.dirty.mask
RWX_A = 0x107
ANOTHER_PAGE = 0x5000000  # of the host
NOT_IN_THE_PROCESS = 0x7000_0000_0000
OPS = (Op.READ, Op.WRITE, Op.FETCH)

Make = Callable[[Machine], None]


# -- the kinds: how each is made ----------------------------------------------------------------


def leaf(keep: int) -> Make:
    def make(machine: Machine) -> None:
        now = int.from_bytes(machine.memory.read(machine.ept12[1].host, 8), "little")
        machine.put(machine.ept12[1], now & keep)

    return make


def misconfigured(machine: Machine) -> None:
    leaf(~(0x7 & ~W))(machine)


def table_at(address: Callable[[Machine], int]) -> Make:
    """EPT12's PDE names a table at L1 physical `address`, and KVM shadows that."""

    def make(machine: Machine) -> None:
        place = address(machine)
        machine.put(machine.ept12[2], place | RWX_A)
        machine.set(machine.pages[1].value.member("gfn"), place >> 12)

    return make


def table_in_a_slot_being_deleted(machine: Machine) -> None:
    slot = machine.other_slot()
    table_at(lambda _: slot.start)(machine)
    machine.set(slot.value.member("flags"), INVALID_SLOT)


def unbacked(machine: Machine) -> int:
    """A page of a slot that the VMM's process has nothing for, nor KVM for L1."""
    slot = machine.other_slot()
    machine.set(slot.value.member("userspace_addr"), NOT_IN_THE_PROCESS)
    machine.put(machine.ept01_of(slot.start), machine.form.empty)
    return slot.start


LEADING: dict[str, Make] = {
    "rwx": leaf(-1),
    "read only": leaf(~(W | X)),
    "not dirty": leaf(~D),
    "not accessed": leaf(~A),
}
ENDING: dict[str, Make] = {
    "hole": leaf(0),
    "misconfigured": misconfigured,
    "table in no memslot": table_at(lambda _: HOLE_OF_L1),
    "table in a memslot being deleted": table_in_a_slot_being_deleted,
    "table not in the process": table_at(unbacked),
}
EPT12 = {**LEADING, **ENDING}


def to_other_slot(machine: Machine, member: str = "", number: int = 0) -> None:
    slot = machine.other_slot()
    machine.maps(slot.start)
    if member:
        machine.set(slot.value.member(member), number)


SLOTS: dict[str, Make] = {
    "ordinary": to_other_slot,
    "none": lambda machine: machine.maps(HOLE_OF_L1),
    "KVM's own": lambda machine: to_other_slot(machine, "id", machine.apic_access_id),
    "being deleted": lambda machine: to_other_slot(machine, "flags", INVALID_SLOT),
    "not in the process": lambda machine: machine.maps(unbacked(machine)),
}


def shadows_the_page(machine: Machine) -> None:
    machine.shadows(machine.mapped(), machine.backing())


def shadows_it_read_only(machine: Machine) -> None:
    shadows_the_page(machine)
    now = int.from_bytes(machine.memory.read(machine.ept02[1].host, 8), "little")
    machine.put(machine.ept02[1], now & ~W)


def mmio(age: int) -> Make:
    def make(machine: Machine) -> None:
        word = machine.mmio(machine.mapped(), machine.generation() - age)
        machine.put(machine.ept02[1], word)

    return make


SHADOWS: dict[str, Make] = {
    "the page": shadows_the_page,
    "the page, read only": shadows_it_read_only,
    "empty": lambda machine: machine.put(machine.ept02[1], machine.form.empty),
    "another page of the host": lambda machine: machine.shadows(machine.mapped(), ANOTHER_PAGE),
    "another page of L1": lambda machine: machine.shadows(0x1000, ANOTHER_PAGE),
    "MMIO of this generation": mmio(0),
    "MMIO of an older generation": mmio(2),
}


def sync(unsync: int) -> Make:
    return lambda machine: machine.set(machine.pages[1].value.member("unsync"), unsync)


SYNC = {"in sync": sync(0), "out of sync": sync(1)}


def eptp(change: Callable[[int], int]) -> Make:
    return lambda machine: machine.vmcs12("ept_pointer", change(machine.eptp))


def waits(machine: Machine) -> None:
    """L1 has gone to another EPTP and come back, and has not entered L2 with it yet."""
    pgd, hpa = machine.root()
    waiting = machine.guest_mmu().member("prev_roots").index(1)
    machine.set(waiting.first("pgd", "cr3"), pgd.number())
    machine.set(waiting.member("hpa"), hpa.number())
    machine.set(pgd, pgd.number() + 0x1000)
    machine.set(hpa, machine.pages[3].table)


def dropped(machine: Machine) -> None:
    machine.set(machine.root()[1], -1)


def obsolete(machine: Machine) -> None:
    machine.role(4, "invalid", 1)


def being_dropped(machine: Machine) -> None:
    obsolete(machine)
    machine.set(machine.before.vcpu.value.member("requests"), 1 << 39 | 1 << 1)


ROOTS: dict[str, Make] = {
    "of this EPTP": lambda machine: None,
    "waiting": waits,
    "none": dropped,
    "of other A/D flags": eptp(lambda now: now ^ 1 << 6),
    "of another memory type": lambda machine: machine.set(
        machine.root()[0], machine.root()[0].number() ^ 6
    ),
    "refused: memory type": eptp(lambda now: now & ~7 | 1),
    "refused: levels": eptp(lambda now: now & ~(7 << 3) | 2 << 3),
    "refused: reserved bit": eptp(lambda now: now | 1 << 8),
    "refused: shadow stacks": eptp(lambda now: now | 1 << 7),
    "refused: type UC": eptp(lambda now: now & ~7),
    "obsolete": obsolete,
    "obsolete, being dropped": being_dropped,
}


def gfn(machine: Machine) -> None:
    machine.set(machine.pages[1].value.member("gfn"), 1)


def old_generation(machine: Machine) -> None:
    value = machine.pages[2].value.member("mmu_valid_gen")
    machine.set(value, value.number() + 1)


IDENTITY: dict[str, Make] = {
    "theirs": lambda machine: None,
    "of another table": gfn,
    "direct": lambda machine: machine.role(1, "direct", 1),
    "of another level": lambda machine: machine.role(2, "level", 3),
    "of fewer rights": lambda machine: machine.role(1, "access", 1),
    "invalid": lambda machine: machine.role(2, "invalid", 1),
    "of an old generation": old_generation,
    "not for L2": lambda machine: machine.role(3, "guest_mode", 0),
}


@dataclass(frozen=True)
class State:
    ept12: str = "rwx"
    slot: str = "ordinary"
    shadow: str = "the page"
    sync: str = "in sync"
    root: str = "of this EPTP"
    pages: str = "theirs"

    def make(self, machine: Machine) -> None:
        machine.reset()
        if self.ept12 in LEADING:
            SLOTS[self.slot](machine)
        SHADOWS[self.shadow](machine)
        SYNC[self.sync](machine)
        EPT12[self.ept12](machine)
        IDENTITY[self.pages](machine)
        ROOTS[self.root](machine)

    def __str__(self) -> str:
        return ", ".join((self.ept12, self.slot, self.shadow, self.sync, self.root, self.pages))


def states() -> Iterator[State]:
    """Slots matter only where EPT12 leads to one, and what is below a root only where it is in
    use; every pair of kinds that can meet does."""
    for entries, slot, shadow, known in product(LEADING, SLOTS, SHADOWS, SYNC):
        yield State(entries, slot, shadow, known)
    for entries, shadow, known in product(ENDING, SHADOWS, SYNC):
        yield State(entries, shadow=shadow, sync=known)
    for root, entries in product(ROOTS, EPT12):
        yield State(entries, root=root)
    for pages, entries in product(IDENTITY, EPT12):
        yield State(entries, pages=pages)


# -- what is right: the exit --------------------------------------------------------------------

EXITS: dict[str, tuple[Outcome, Outcome, str]] = {
    # by EPT12: read, write or fetch
    "rwx": (Outcome.TRANSLATED, Outcome.TRANSLATED, "permission_fault()"),
    "read only": (Outcome.TRANSLATED, Outcome.VIOLATION, "permission_fault()"),
    "not dirty": (Outcome.TRANSLATED, Outcome.TRANSLATED, "update_accessed_dirty_bits()"),
    "not accessed": (Outcome.TRANSLATED, Outcome.TRANSLATED, "update_accessed_dirty_bits()"),
    "hole": (Outcome.VIOLATION, Outcome.VIOLATION, "FNAME(is_present_gpte)()"),
    "misconfigured": (Outcome.MISCONFIG, Outcome.MISCONFIG, "FNAME(is_rsvd_bits_set)()"),
    "table in no memslot": (Outcome.VIOLATION, Outcome.VIOLATION, "gfn_to_hva_memslot_prot()"),
    "table in a memslot being deleted": (
        Outcome.VIOLATION, Outcome.VIOLATION, "__gfn_to_hva_many(): KVM_MEMSLOT_INVALID",
    ),
    "table not in the process": (
        Outcome.UNKNOWN, Outcome.UNKNOWN, "get_user() brings the page in, and we cannot",
    ),
}  # fmt: skip


# -- what is right: the verdict -----------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """The verdict of the states whose kinds are all among those of `when`."""

    when: dict[str, tuple[str, ...]]
    agreement: Agreement
    fault: Fault
    source: str
    says: tuple[str, ...] = field(default=())

    def fits(self, state: State) -> bool:
        return all(getattr(state, name) in kinds for name, kinds in self.when.items())


MAPPING = ("the page", "the page, read only", "another page of the host", "another page of L1")
OUT = ("out of sync",)
NO_EPT02 = ("none", "of other A/D flags", "of another memory type")
SHADOWED_PAGES = ("of another table", "direct")
WRONG = ("of another level", "invalid", "of an old generation", "not for L2")
UNREAD = ("table not in the process",)
NOW, OLDER = "MMIO of this generation", "MMIO of an older generation"
L1, KVM, VMM, NOBODY = Fault.L1, Fault.KVM, Fault.VMM, Fault.NOBODY
NOT_KNOWN = Fault.UNKNOWN
K = Agreement

VERDICTS = (
    # the root
    Row({"root": tuple(root for root in ROOTS if root.startswith("refused"))}, K.REFUSED, L1,
        "nested_vmx_check_eptp()"),
    Row({"root": ("obsolete",)}, K.BROKEN, KVM, "kvm_mmu_free_obsolete_roots()", ("invalid",)),
    # the tables of the shadow, as far as EPT12 says what they must be
    Row({"pages": WRONG}, K.BROKEN, KVM, "kvm_mmu_get_child_sp(), is_obsolete_sp()"),
    Row({"pages": SHADOWED_PAGES}, K.BROKEN, KVM, "kvm_mmu_get_child_sp()"),
    # EPT12 ends
    Row({"ept12": UNREAD}, K.UNREADABLE, NOT_KNOWN, "get_user()"),
    Row({"ept12": ("table in a memslot being deleted",)}, K.NOT_MAPPED, VMM,
        "__gfn_to_hva_many(): KVM_MEMSLOT_INVALID", ("do not explain",)),
    Row({"ept12": ("table in no memslot",), "shadow": (*MAPPING, NOW),
         "root": ("of this EPTP", "waiting")}, K.STALE, KVM, "kvm_arch_flush_shadow_memslot()"),
    Row({"ept12": ("table in no memslot",)}, K.NOT_MAPPED, L1, "gfn_to_hva_memslot_prot()"),
    Row({"ept12": ("hole", "misconfigured"), "shadow": (*MAPPING, NOW), "sync": OUT,
         "root": ("of this EPTP", "waiting")},
        K.STALE, L1, "mmu_try_to_unsync_pages(); FNAME(sync_spte)() at INVEPT", ("INVEPT",)),
    Row({"ept12": ("hole", "misconfigured"), "shadow": (*MAPPING, NOW),
         "root": ("of this EPTP", "waiting")},
        K.STALE, KVM, "a table in sync is write-protected: mmu_try_to_unsync_pages()"),
    Row({"ept12": ("hole",)}, K.NOT_MAPPED, NOBODY, "FNAME(is_present_gpte)()"),
    Row({"ept12": ("misconfigured",)}, K.MISCONFIGURED, L1, "FNAME(is_rsvd_bits_set)()"),
    Row({"root": ("obsolete, being dropped",)}, K.NOT_SHADOWED, NOBODY,
        "KVM_REQ_MMU_FREE_OBSOLETE_ROOTS; KVM_REQ_MMU_RELOAD"),
    # the memslot
    Row({"slot": ("being deleted",)}, K.BEING_CHANGED, NOBODY, "kvm_faultin_pfn(): RET_PF_RETRY"),
    Row({"slot": ("KVM's own",), "shadow": MAPPING}, K.BROKEN, KVM,
        "kvm_faultin_pfn(): is_guest_mode()"),
    Row({"slot": ("KVM's own",)}, K.HIDDEN_SLOT, NOBODY, "kvm_faultin_pfn(): is_guest_mode()"),
    Row({"slot": ("none",), "shadow": ("another page of L1",), "sync": OUT}, K.STALE, L1,
        "FNAME(sync_spte)() at INVEPT"),
    Row({"slot": ("none",), "shadow": ("another page of L1",)}, K.STALE, KVM,
        "mmu_try_to_unsync_pages()"),
    Row({"slot": ("none",), "shadow": MAPPING}, K.STALE, KVM, "kvm_arch_flush_shadow_memslot()"),
    Row({"slot": ("none",)}, K.NO_SLOT, NOBODY, "kvm_handle_noslot_fault()"),
    # the host
    Row({"slot": ("not in the process",), "shadow": MAPPING}, K.STALE, KVM,
        "kvm_mmu_notifier_invalidate_range_start()"),
    Row({"slot": ("not in the process",)}, K.NOT_BACKED, NOBODY, "hva_to_pfn()"),
    # what KVM shadows of it
    Row({"root": NO_EPT02}, K.NOT_SHADOWED, NOBODY, "is_root_usable(), kvm_mmu_new_pgd()"),
    Row({"shadow": ("empty",)}, K.NOT_SHADOWED, NOBODY, "FNAME(page_fault)()"),
    Row({"shadow": (NOW,)}, K.BROKEN, KVM, "check_mmio_spte()", ("check_mmio_spte()",)),
    Row({"shadow": (OLDER,)}, K.STALE, NOBODY, "check_mmio_spte()", ("notices",)),
    Row({"shadow": ("another page of the host",)}, K.STALE, KVM,
        "kvm_mmu_notifier_invalidate_range_start()", ("no INVEPT is missing",)),
    Row({"shadow": ("another page of L1",), "sync": OUT}, K.STALE, L1,
        "FNAME(sync_spte)(): kvm_mmu_page_get_gfn()"),
    Row({"shadow": ("another page of L1",)}, K.STALE, KVM, "mmu_try_to_unsync_pages()"),
    # the same page: rights and flags
    Row({"ept12": ("read only",), "sync": OUT}, K.STALE, L1,
        "FNAME(sync_spte)(): kvm_mmu_page_get_access()"),
    Row({"ept12": ("read only",)}, K.STALE, KVM, "mmu_try_to_unsync_pages()"),
    Row({"ept12": ("not dirty",), "shadow": ("the page",), "sync": OUT}, K.STALE, L1,
        "FNAME(protect_clean_gpte)()", ("dirty",)),
    Row({"ept12": ("not dirty",), "shadow": ("the page",)}, K.STALE, KVM,
        "FNAME(protect_clean_gpte)()", ("dirty",)),
    Row({"ept12": ("not accessed",), "sync": OUT}, K.STALE, L1,
        "FNAME(prefetch_invalid_gpte)()", ("accessed",)),
    Row({"ept12": ("not accessed",)}, K.STALE, KVM, "FNAME(prefetch_invalid_gpte)()"),
    Row({"pages": ("of fewer rights",)}, K.BROKEN, KVM, "kvm_mmu_child_role()", ("access",)),
    Row({}, K.AGREE, NOBODY, ""),
)  # fmt: skip


def expected(state: State) -> Row:
    return next(row for row in VERDICTS if row.fits(state))


# -- the four answers ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    verdict: Verdict
    predictions: dict[Op, Prediction[L1Phys]]
    rows: tuple[Listed, ...]  # of nept-ept
    refused: tuple[object, ...]  # entry_failure in the JSON of each command


def ask(machine: Machine) -> Answers:
    session, chosen = machine.session, machine.chosen
    journey = machine.journey()
    asked = oracle(session, chosen, "kvm")
    predictions = {op: asked.physical(Access(machine.asked, op)) for op in OPS}
    page = (machine.asked, machine.asked + 0x1000)
    shown = listing(session, chosen, Which.L1, page)
    rows = tuple(listing(session, chosen, Which.L1, page).rows)
    refusal = session.ept(chosen, Which.L1).refusal
    read = Access(machine.asked, Op.READ)
    pages = (
        journey_page(journey),
        prediction_page(read, predictions[Op.READ], asked),
        ept_page(shown),
        *([check_page(run_check(session, chosen), refusal)] if journey.refusal else []),
    )
    refused = tuple(page.data["entry_failure"] for page in pages)
    return Answers(verdict(journey), predictions, rows, refused)


@lru_cache
def machine_of(snapshot: Path) -> Machine:
    return Machine(snapshot)


@lru_cache
def answered(machine: Machine) -> tuple[tuple[State, Answers], ...]:
    """All states, each asked once."""
    found = []
    for state in states():
        state.make(machine)
        found.append((state, ask(machine)))
    return tuple(found)


@pytest.fixture
def machine(plain_snapshot: Path) -> Iterator[Machine]:
    found = machine_of(plain_snapshot)
    found.reset()
    yield found
    found.reset()


def test_each_verdict_is_that_of_the_table(machine: Machine) -> None:
    wrong = []
    used = set()
    for state, answers in answered(machine):
        found, row = answers.verdict, expected(state)
        used.add(VERDICTS.index(row))
        right = (found.agreement, found.fault) == (row.agreement, row.fault)
        if not right or any(word not in found.sentence + found.why for word in row.says):
            wrong.append(f"{state}: {found} and not {row}")
    assert not wrong, "\n".join([f"{len(wrong)} states", *wrong[:20]])
    assert used == set(range(len(VERDICTS))), "rows that no state needs"


def test_each_exit_is_that_of_the_table(machine: Machine) -> None:
    for entries, (read, other, source) in EXITS.items():
        state = State(entries)
        state.make(machine)
        predictions = ask(machine).predictions
        found = [predictions[op].outcome for op in OPS]
        assert found == [read, other, other], f"{state}: {source}"


def test_no_answer_contradicts_another(machine: Machine) -> None:
    wrong = []
    for state, found in answered(machine):
        wrong += [f"{state}: {said}" for said in contradictions(found)]
    assert not wrong, "\n".join([f"{len(wrong)} contradictions", *wrong[:20]])


def contradictions(found: Answers) -> Iterator[str]:
    agreement, sentence = found.verdict.agreement, found.verdict.sentence
    outcomes = {op: each.outcome for op, each in found.predictions.items()}
    if len({bool(each) for each in found.refused}) != 1:
        yield f"an EPTP that some refuse and some take: {found.refused}"
    if (agreement is Agreement.REFUSED) is not bool(found.refused[0]):
        yield f"{found.verdict} and {found.refused}"
    if agreement is Agreement.NOT_MAPPED and set(outcomes.values()) != {Outcome.VIOLATION}:
        yield f"{found.verdict} and {outcomes}"
    if agreement is Agreement.MISCONFIGURED and set(outcomes.values()) != {Outcome.MISCONFIG}:
        yield f"{found.verdict} and {outcomes}"
    if agreement is Agreement.UNREADABLE and set(outcomes.values()) != {Outcome.UNKNOWN}:
        yield f"{found.verdict} and {outcomes}"
    if agreement in THROUGH:
        for op, outcome in outcomes.items():
            withheld = any(
                f"a {names} is an EPT violation" in sentence
                for names in WITHHELD
                if op.value in names
            )
            if withheld is (outcome is Outcome.TRANSLATED):
                yield f"{found.verdict} and {op.value}: {outcome}"
    yield from _listed(found, outcomes)


THROUGH = (
    Agreement.AGREE,
    Agreement.WRITE_TRACKED,
    Agreement.NO_SLOT,
    Agreement.HIDDEN_SLOT,
    Agreement.BEING_CHANGED,
    Agreement.NOT_BACKED,
)
WITHHELD = ("read", "write", "fetch", "read or write", "read or fetch", "write or fetch",
            "read or write or fetch")  # fmt: skip


def _listed(found: Answers, outcomes: dict[Op, Outcome]) -> Iterator[str]:
    """nept-ept's row for the page, against the exits."""
    kinds = set(outcomes.values())
    (row,) = found.rows
    if isinstance(row, (Unread, DerivedRun)):
        missing = "memslot" in row.why
        if kinds != {Outcome.VIOLATION if missing else Outcome.UNKNOWN}:
            yield f"unread ({row.why}), and {outcomes}"
    elif isinstance(row, Hole):
        if kinds != {Outcome.VIOLATION}:
            yield f"a hole, and {outcomes}"
    elif row.stop is not None:
        if kinds != {Outcome.MISCONFIG}:
            yield f"{row.stop.why}, and {outcomes}"
    else:
        allowed = {op.value for op, each in outcomes.items() if each is Outcome.TRANSLATED}
        if allowed != allowed_by(row.rights):
            yield f"rights {allowed_by(row.rights)} and {outcomes}"


def test_a_check_agrees_with_what_is_predicted(machine: Machine) -> None:
    """With the predicted exit written into vmcs12, nept-check agrees; where none is due, it says
    that there is none, and where that is not known, just that."""
    for entries, op in product(EPT12, OPS):
        State(entries).make(machine)
        due = ask(machine).predictions[op]
        reason = due.reason if due.reason is not None else 48
        for name, number in (
            ("vm_exit_reason", reason),
            ("exit_qualification", due.qualification),
            ("guest_physical_address", machine.asked),
            ("guest_linear_address", machine.asked),  # L2 maps its memory one to one
        ):
            machine.vmcs12(name, number)
        found = run_check(machine.session, machine.chosen)
        others = {each.outcome for each in ask(machine).predictions.values()}
        if due.reason is not None:
            assert found.finding is Finding.AGREE, f"{entries}, {op.value}: {found}"
        elif others <= {Outcome.TRANSLATED, Outcome.UNKNOWN}:
            known = Finding.UNKNOWN if Outcome.UNKNOWN in others else Finding.NO_EXIT
            assert found.finding is known, f"{entries}, {op.value}: {found}"


def test_the_words_say_which_table_and_which_memslot(machine: Machine) -> None:
    machine.reset()
    slot = machine.other_slot()
    to_other_slot(machine, "id", machine.apic_access_id)
    machine.put(machine.ept02[1], machine.mmio(slot.start, machine.generation()))
    found = machine.journey()
    assert found.slot is not None
    assert hidden_from_l2(machine.chosen.owner.value, found.slot) in verdict(found).sentence
    assert "the APIC-access page" in verdict(found).sentence


def test_a_root_that_waits_is_walked(machine: Machine) -> None:
    waits(machine)
    found = machine.journey()
    assert found.shadow is not None
    assert found.shadow.walk.root == machine.pages[4].table
    assert any("prev_roots" in note for note in found.notes)


def test_the_root_of_ept12_in_no_memslot(machine: Machine) -> None:
    """mmu_check_root() up to 6.5, mmu_alloc_shadow_roots() and its dummy root since."""
    machine.vmcs12("ept_pointer", machine.eptp & ~ADDRESS | HOLE_OF_L1)
    found = ask(machine)
    outcomes = {each.outcome for each in found.predictions.values()}
    (outcome,) = outcomes
    wanted = {
        Outcome.TRIPLE_FAULT: (Agreement.NO_ROOT, "triple fault"),
        Outcome.SHUTDOWN: (Agreement.NO_ROOT, "KVM_EXIT_SHUTDOWN"),
        Outcome.VIOLATION: (Agreement.NOT_MAPPED, "dummy root"),
    }[outcome]
    assert found.verdict.agreement is wanted[0]
    assert wanted[1] in found.verdict.sentence
    assert found.verdict.fault is Fault.L1
    assert all(isinstance(row, Unread) and "no memslot" in row.why for row in found.rows)


def test_words_that_are_not_of_the_snapshot(machine: Machine) -> None:
    """The overlay itself: what is put is read, and a reset takes it back."""
    word = machine.ept12[1]
    machine.put(Word(word.place, word.value), 0)
    assert machine.journey().ept12.stop is not None
    machine.reset()
    assert verdict(machine.journey()).agreement is Agreement.AGREE
