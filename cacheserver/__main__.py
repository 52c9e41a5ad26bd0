"""``python -m cacheserver``: the same as the installed command.

Owns: what is done before the commands are imported, which takes a while. Must not import them at its head.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from cacheserver.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(1)
    run()


if __name__ == "__main__":
    main()
