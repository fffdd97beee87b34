# SPDX-License-Identifier: GPL-2.0-or-later
"""Where members of real kernels lie, and which of their types matter to a test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"

# Members whose type matters: "x" struct, "*x" pointer to it, "x[n]" array, "i4" signed number.
COMMON = {
    "cpuinfo_x86": {"x86_capability": "u4[22]"},
    "kvm": {
        "mm": "*mm_struct",
        "memslots": "*kvm_memslots[2]",
        "vcpu_array": "xarray",
        "vcpus": "*kvm_vcpu[4]",
        "online_vcpus": "atomic_t",
        "vm_list": "list_head",
        "arch": "kvm_arch",
    },
    "kvm_vcpu": {
        "kvm": "*kvm",
        "cpu": "i4",
        "vcpu_id": "i4",
        "pid": "*pid",
        "arch": "kvm_vcpu_arch",
        "stat": "kvm_vcpu_stat",
    },
    "kvm_vcpu_arch": {
        "regs": "u8[17]",
        "mmu": "*kvm_mmu",
        "walk_mmu": "*kvm_mmu",
        "root_mmu": "kvm_mmu",
        "guest_mmu": "kvm_mmu",
        "nested_mmu": "kvm_mmu",
    },
    "kvm_mmu": {
        "root": "kvm_mmu_root_info",
        "prev_roots": "kvm_mmu_root_info[3]",
        "cpu_role": "kvm_cpu_role",
        "root_role": "kvm_mmu_page_role",
        "base_role": "kvm_mmu_page_role",
        "mmu_role": "kvm_cpu_role",
    },
    "kvm_mmu_page": {"link": "list_head", "role": "kvm_mmu_page_role", "unsync_children": "i4"},
    "kvm_memslots": {
        "gfn_tree": "rb_node",
        "memslots": "kvm_memory_slot[8]",
        "id_to_index": "i2[8]",
    },
    "kvm_memory_slot": {
        "gfn_node": "rb_node[2]",
        "arch": "kvm_arch_memory_slot",
        "id": "i2",
    },
    "kvm_arch_memory_slot": {
        "lpage_info": "*kvm_lpage_info[2]",
        "gfn_track": "*u2[1]",
        "gfn_write_track": "*u2",
    },
    "vcpu_vmx": {
        "vcpu": "kvm_vcpu",
        "vmcs01": "loaded_vmcs",
        "loaded_vmcs": "*loaded_vmcs",
        "exit_reason": "vmx_exit_reason",
        "nested": "nested_vmx",
    },
    "nested_vmx": {"vmcs02": "loaded_vmcs", "msrs": "nested_vmx_msrs", "smm": "nested_smm"},
    "xa_node": {"slots": "*void[64]"},
    "task_struct": {"comm": "u1[16]"},
    "mm_struct": {"owner": "*task_struct"},
    "pid": {"numbers": "upid[1]"},
}
MORE = {
    "list_head": (16, {"next": (0, 8), "prev": (8, 8)}),
    "atomic_t": (4, {"counter": (0, 4)}),
    "kvm_vcpu_stat": (1104, {"guest_mode": (800, 8)}),
    "kvm_cpu_role": (8, {"base": (0, 4), "ext": (4, 4)}),
    "kvm_arch_memory_slot": (48, {"lpage_info": (24, 16), "gfn_track": (40, 8)}),
    "cpuinfo_x86": (160, {"x86_capability": (48, 88)}),
    "kvm_lpage_info": (4, {"disallow_lpage": (0, 4)}),
    "vmx_exit_reason": (4, {"full": (0, 4)}),
    "nested_smm": (2, {"vmxon": (0, 1), "guest_mode": (1, 1)}),
    "pid": (64, {"numbers": (48, 16)}),
    "upid": (16, {"nr": (0, 4)}),
}
OTHERWISE = {("kvm_vcpu_arch", "mmu"): "kvm_mmu"}
ROLE = (
    ("level", 0, 4), ("direct", 7, 1), ("access", 8, 3), ("invalid", 11, 1),
    ("ad_disabled", 16, 1), ("guest_mode", 17, 1), ("passthrough", 18, 1), ("smm", 24, 8),
)  # fmt: skip
EXT_ROLE = (("valid", 0, 1), ("execonly", 1, 1), ("efer_lma", 7, 1))

DEBIAN_6_1 = "debian-6.1.0-52-cloud-amd64"
DEBIAN_6_12 = "debian-6.12.117+deb12-cloud-amd64"


@dataclass
class Struct:
    """Size, and [offset, size] of each member."""

    size: int
    fields: dict[str, tuple[int, int]]


Offsets = dict[str, Struct]


def debian(release: str = DEBIAN_6_1) -> Offsets:
    """The offsets of a real kernel, to be changed at will."""
    kernel = json.loads((DATA / "kvm_offsets.json").read_text())["kernels"][release]
    return {
        name: Struct(row["size"], {one: (at[0], at[1]) for one, at in row["fields"].items()})
        for name, row in kernel.items()
    }


def oldest() -> Offsets:
    """A kernel in the forms of 4.9: arrays, one MMU, flat capabilities.  Offsets are invented."""
    offsets = debian()

    def reshape(name: str, drop: str, **add: tuple[int, int]) -> None:
        struct = offsets[name]
        for member in drop.split():
            struct.fields.pop(member, None)
        struct.fields.update(add)

    reshape("kvm", "vcpu_array userspace_pid", vcpus=(4392, 32))
    reshape("kvm_vcpu_arch", "root_mmu guest_mmu", mmu=(384, 384))
    reshape(
        "kvm_mmu",
        "root cpu_role root_role prev_roots",
        root_hpa=(56, 8), root_level=(64, 4), shadow_root_level=(68, 4), base_role=(72, 4),
    )  # fmt: skip
    reshape("kvm_memslots", "gfn_tree node_idx", used_slots=(1068, 4), memslots=(8, 8 * 264))
    offsets["kvm_memslots"].size = 4096
    offsets["kvm_memslots"].fields["used_slots"] = (3000, 4)
    offsets["kvm_memslots"].fields["id_to_index"] = (3008, 16)
    reshape("nested_vmx", "msrs smm pml_full hv_evmcs_vmptr need_sync_vmcs02_to_vmcs12_rare "
            "vmcs02 need_vmcs12_to_shadow_sync", sync_shadow_vmcs=(128, 1),
            nested_vmx_ept_caps=(600, 4), nested_vmx_vpid_caps=(604, 4),
            nested_vmx_secondary_ctls_high=(608, 4))  # fmt: skip
    reshape("kvm_mmu_page", "shadowed_translation tdp_mmu_page tdp_mmu_root_count",
            mmu_valid_gen=(32, 8), unsync=(120, 1), gfns=(56, 8))  # fmt: skip
    reshape("vcpu_vmx", "exit_qualification", exit_reason=(7808, 4))
    return offsets
