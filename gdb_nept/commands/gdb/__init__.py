# SPDX-License-Identifier: GPL-2.0-or-later
"""The declared commands, settings and functions, registered in gdb."""
