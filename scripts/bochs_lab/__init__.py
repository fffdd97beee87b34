# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: a Debian kernel with KVM as L0 in Bochs, snapshots of it, and their replay in QEMU.

Bochs emulates VMX with EPT, so a real nested state comes about on any machine.  The parts, in
the order a run meets them: `cli` and `arguments` (what is typed), `options`, `emulator` (which
Bochs, as which processor), `kernels` and `packages` (which kernel), `guests`, `linux_l1` (another
L1, as an overlay), `initramfs`, `image` (what is booted), `bochs`, `ram`, `registers`, `console`
(the machine), `boot` (until the park point), `daemon`, `service` and `machine` (one that stays),
`snapshot`, `replay` and `replays`; `bare` is L1 with no L0 under it.

The gdb stub over a machine that stays: `live` (read, stop, run), with `processor` and
`translation`; `stub` (the packets' answers), with `target_xml` and `monitor`; `server` (its port),
with `rsp` (the packet layer) and `listener`.

A kernel that debugs itself: `kgdb_kernel` (built from source), `serial_line` and `kgdb` (its port).

Built or fetched where there is none: `bochs_build`, `makedumpfile`, `debug_symbols` (of L0's
kernel); `builds` runs such a build, `cache` keeps what came of it.  Under all of it: `runtime`
(sockets and state), `progress`, `errors`.
"""
