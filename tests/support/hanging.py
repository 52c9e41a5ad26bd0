"""The node's own command with one function that never returns: ``python -m tests.support.hanging serve …``.

HANGING names it, as module:function. Writing everything down at the end may take 0.3 s.
"""

from __future__ import annotations

import importlib
import os
import threading


def main() -> None:
    """Run the command."""
    from cacheserver.node import lifetime

    lifetime.WRITE_DOWN_S = 0.3
    module, _, name = os.environ["HANGING"].partition(":")
    setattr(importlib.import_module(module), name, lambda *_: threading.Event().wait())
    from cacheserver.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
