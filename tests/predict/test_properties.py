# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for every EPT: found by hypothesis, not by the cases that somebody thought of."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gdb_nept.arch.cpu import Capabilities
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.predict.access import Access, Op, Stage
from gdb_nept.predict.hardware import predict
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.predict.recognise import impossible
from gdb_nept.walk.result import Cause
from tests.predict.tables import CPU, RWX, XU, Path, R, to, with_cap

RIGHTS = st.integers(0, RWX)
FLAGS = st.builds(lambda low, high: low << 8 | high << 52, st.integers(0, 15), st.integers(0, 4095))
RESERVED = st.sampled_from([0, 0, 0, 0, 1 << 3, 1 << 6, 1 << 7, 1 << 12, 1 << 39, 1 << 51])


@st.composite
def paths(draw: st.DrawFn) -> Path:
    leaf, levels = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([4, 4, 5]))
    here = range(leaf, levels + 1)
    return Path(
        leaf,
        levels,
        {level: draw(st.one_of(st.just(RWX), RIGHTS)) for level in here},
        {level: draw(FLAGS) | draw(RESERVED) for level in here},
        ad=draw(st.booleans()),
        sss=draw(st.booleans()),
    )


ACCESSES = st.builds(
    to, st.sampled_from(Op), st.sampled_from(Stage), user=st.booleans(), shadow_stack=st.booleans()
)
CPUS = st.builds(
    lambda execute_only, advanced, mbec, paging_write: replace(
        with_cap(CPU, execute_only=execute_only, advanced_exit=advanced),
        mbec=mbec,
        paging_write=paging_write,
    ),
    st.integers(0, 1),
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
)


def asked(path: Path, access: Access, cpu: Capabilities, words: dict[int, int]) -> Prediction[int]:
    memory: SparseMemory[int] = SparseMemory(words)
    return predict(memory, path.eptp, access, cpu)


@given(paths(), ACCESSES, CPUS, st.integers(1, 5), st.sampled_from([1, 2, 4, XU]))
def test_adding_a_right_never_turns_a_translation_into_a_violation(
    path: Path, access: Access, cpu: Capabilities, level: int, right: int
) -> None:
    before = asked(path, access, cpu, path.words)
    if before.outcome is not Outcome.TRANSLATED or not path.leaf <= level <= path.levels:
        return
    words = path.words
    words[path.place(level)] |= right
    after = asked(path, access, cpu, words)
    if after.outcome is Outcome.MISCONFIG:
        assert after.walk.stop is not None
        assert after.walk.stop.cause is Cause.MISCONFIGURED
        assert "without R" in after.why  # the one way for a right to be too much
        assert not words[path.place(level)] & R
    else:
        assert after.outcome is Outcome.TRANSLATED
        assert after.hpa == before.hpa


@given(paths(), ACCESSES, CPUS)
def test_bits_5_to_3_never_exceed_the_rights_of_any_entry(
    path: Path, access: Access, cpu: Capabilities
) -> None:
    found = asked(path, access, cpu, path.words)
    if found.outcome is not Outcome.VIOLATION:
        return
    reported = found.qualification >> 3 & RWX
    for step in found.walk.steps:
        assert reported & ~step.entry.value == 0
    assert cpu.mbec or not found.qualification & 0x40


@given(paths(), ACCESSES, CPUS)
def test_a_misconfiguration_has_qualification_0(
    path: Path, access: Access, cpu: Capabilities
) -> None:
    found = asked(path, access, cpu, path.words)
    if found.outcome is Outcome.MISCONFIG:
        assert (found.qualification, found.gla) == (0, None)


@given(
    paths(),
    ACCESSES,
    CPUS,
    st.dictionaries(
        st.integers(0, 1 << 20).map(lambda number: number * 8), st.integers(0, (1 << 64) - 1)
    ),
)
def test_a_prediction_depends_on_the_entries_on_the_path_alone(
    path: Path, access: Access, cpu: Capabilities, other: dict[int, int]
) -> None:
    expected = asked(path, access, cpu, path.words)
    everywhere = {**other, **path.words}
    assert asked(path, access, cpu, everywhere) == expected
    used = {int(step.address): step.entry.value for step in expected.walk.steps}
    assert asked(path, access, cpu, used) == expected


@given(paths(), ACCESSES, CPUS)
def test_no_violation_that_a_processor_cannot_report(
    path: Path, access: Access, cpu: Capabilities
) -> None:
    found = asked(path, access, cpu, path.words)
    if found.outcome is Outcome.VIOLATION and not (cpu.paging_write or access.shadow_stack):
        assert impossible(found.qualification) == ()


@given(paths(), ACCESSES, CPUS)
def test_the_flags_that_the_processor_ignores_change_nothing(
    path: Path, access: Access, cpu: Capabilities
) -> None:
    """Bits 9 and 8 without EPTP bit 6, and bit 11 and 62 always."""
    cpu, path = replace(cpu, paging_write=False, mbec=False), replace(path, sss=False, ad=False)
    plain = {place: word & ~(0xF << 8 | 0x7FF << 52) for place, word in path.words.items()}
    first = asked(path, access, cpu, path.words)
    second = asked(path, access, cpu, plain)
    assert (first.outcome, first.qualification, first.hpa) == (
        second.outcome,
        second.qualification,
        second.hpa,
    )
