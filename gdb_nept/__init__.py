# SPDX-License-Identifier: GPL-2.0-or-later
"""Debug nested EPT on a Linux KVM host from outside: see README.md.

Read the package from the machine outwards: arch, memory, walk (the SDM's part), target, kvm
(Linux's part), nested (both together), render and commands (what a user sees).
"""

__version__ = "0.1.0"
