# SPDX-License-Identifier: GPL-2.0-or-later
"""What `source gdb_nept/init.py` in gdb runs: it loads the commands; a second time it does nothing.

Nothing newer than Python 3.0 stands here, so that an old Python gets as far as the message.
"""

import os
import sys


def load():
    # type: () -> None
    try:
        import gdb
    except ImportError:
        sys.exit("init.py is for gdb: (gdb) source init.py; without gdb: python3 -m gdb_nept")
    if sys.version_info < (3, 9):  # noqa: UP036
        text = "gdb_nept needs Python 3.9; this gdb has %d.%d" % sys.version_info[:2]  # noqa: UP031
        gdb.write(text + ": use a gdb built with a newer one\n", gdb.STDERR)
        return  # gdb shows the traceback of what a file that it sources raises
    # relative to gdb's current directory; __file__ is another's where a Python file sources this
    here = load.__code__.co_filename
    package = os.path.dirname(os.path.abspath(os.path.realpath(here)))
    loaded = sys.modules.get("gdb_nept.errors")
    if loaded is not None and os.path.dirname(str(loaded.__file__)) != package:
        gdb.write("gdb_nept is loaded already from " + str(loaded.__file__) + "\n", gdb.STDERR)
        return
    if os.path.dirname(package) not in sys.path:
        sys.path.insert(0, os.path.dirname(package))
    from gdb_nept.commands.gdb import registry

    registry.register()


load()
