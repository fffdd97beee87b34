# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers of the processor that stands, each asked of the debugger when it is first wanted.

`registers` takes all of it at once for a snapshot, which costs half a second: too much for every
stop.  Names here are those of the target description; numbers are as wide as the register.
"""

from __future__ import annotations

import re
from typing import Callable

from .bochs import Bochs
from .errors import LabError
from .registers import Tree, parse

_GENERAL = re.compile(r"^(r\w+|eflags)\s*:? (?:0x)?([0-9a-f_]+)", re.MULTILINE)
_CONTROL = re.compile(r"^(CR\d|EFER)(?:=|: )(?:page fault laddr=)?0x([0-9a-f]+)", re.MULTILINE)
_SELECTOR = re.compile(r"^(\w+):0x([0-9a-f]{4}), dh=", re.MULTILINE)
_FPU = {
    **{"fctrl": "cwd", "fstat": "swd", "ftag": "twd", "fiseg": "fcs", "fioff": "fip"},
    **{"foseg": "fds", "fooff": "fdp", "fop": "foo"},
}
_STACK = 8  # registers of the x87
_VECTORS = 16
_EPT_ENABLED = 1 << 1  # of the secondary processor-based controls

Group = dict[str, int]


class Processor:
    """One processor; what was asked is kept until `forget`."""

    def __init__(self, bochs: Bochs) -> None:
        self._bochs = bochs
        self._known: Group = {}

    def forget(self) -> None:
        """The processor ran."""
        self._known.clear()

    def value(self, name: str) -> int:
        """A register; raises LabError if the debugger did not show it."""
        try:
            if name not in self._known:
                self._known.update(self._group_of(name)())
            return self._known[name]
        except (KeyError, ValueError):
            raise LabError(f"Bochs did not show the register {name}") from None

    def set(self, name: str, value: int) -> bool:
        """Set a general register or RIP; whether the debugger took it."""
        complaint = self._bochs.command(f"set {name} = {value:#x}").strip()
        self.forget()
        return not complaint and self.value(name) == value

    @property
    def in_guest(self) -> bool:
        """Whether it is in VMX non-root operation: all registers but EPTP are the guest's then."""
        return bool(self.value("in_guest"))

    @property
    def eptp(self) -> int:
        """The EPTP that its memory accesses go through; 0 where there is none."""
        return self.value("eptp") if self.in_guest else 0

    def _group_of(self, name: str) -> Callable[[], Group]:
        if name in ("fs_base", "gs_base"):
            return lambda: {name: self._leaf(f"{name[:2].upper()}.base")}
        if name == "k_gs_base":
            return lambda: {name: self._leaf("MSR.kernelgsbase")}
        if name in ("in_guest", "eptp"):
            return self._vmx
        if name.startswith("cr") or name == "efer":
            return self._control
        if name.startswith(("xmm", "mx")):
            return self._sse
        if name in _FPU or name.startswith("st"):
            return self._fpu
        return self._selectors if len(name) == len("cs") and name[1] == "s" else self._general

    def _general(self) -> Group:
        found = _GENERAL.findall(self._bochs.command("r"))
        return {name: int(text.replace("_", ""), 16) for name, text in found}

    def _control(self) -> Group:
        found = _CONTROL.findall(self._bochs.command("creg"))
        return {name.lower(): int(text, 16) for name, text in found}

    def _selectors(self) -> Group:
        found = _SELECTOR.findall(self._bochs.command("sreg"))
        return {name: int(text, 16) for name, text in found}

    def _fpu(self) -> Group:
        tree = self._tree("FPU")
        found = {ours: int(tree[theirs], 16) & 0xFFFFFFFF for ours, theirs in _FPU.items()}
        top = int(tree["tos"])
        for number in range(_STACK):
            place = tree[f"st{(top + number) % _STACK}"]
            found[f"st{number}"] = int(place["exp"], 16) << 64 | int(place["fraction"], 16)
        return found

    def _sse(self) -> Group:
        tree = self._tree("SSE")
        found = {"mxcsr": int(tree["mxcsr"], 16)}
        for number in range(_VECTORS):
            low, high = (int(tree[f"xmm{number:02}_{half}"], 16) for half in (0, 1))
            found[f"xmm{number}"] = high << 64 | low
        return found

    def _vmx(self) -> Group:
        tree = self._tree("VMX")
        controls = tree["VMCS_CACHE"]["VMEXEC_CTRLS"]
        through_ept = int(controls["vmexec_ctrls3"], 16) & _EPT_ENABLED
        return {
            "in_guest": int(tree["in_vmx_guest"] == "true"),
            "eptp": int(controls["eptptr"], 16) if through_ept else 0,
        }

    def _tree(self, name: str) -> Tree:
        found = parse(self._bochs.command(f'show "cpu0.{name}"'))
        tree: Tree = found.get(name, {})
        return tree

    def _leaf(self, path: str) -> int:
        found = parse(self._bochs.command(f'show "cpu0.{path}"'))
        text = found.get(path.rpartition(".")[2])
        if text is None:
            raise LabError(f"Bochs did not show {path}")
        return int(text, 16)
