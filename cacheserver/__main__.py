"""``python -m cacheserver``: the same as the installed command.

Owns: what is done before the commands are imported, which takes a while: a node that is told to end before it has begun
has ended well. Must not import them at its head.
"""

import signal
import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _stop)  # the first process of a container has no default for it
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # settings are read anyway
    try:
        from cacheserver.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(1)
    run()


def _stop(_number: int, _frame: object) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
