"""Entry of a worker process: ``python -m cacheserver.workers FD``; started by the node, not by hand."""

from __future__ import annotations

import sys

import uvloop

from cacheserver import descriptors
from cacheserver.log import LogOptions, configure
from cacheserver.workers.worker import work


def main() -> None:
    """Work for the owner at the other end of the inherited socket."""
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        sys.exit("cacheserver: error: worker processes are started by the node itself")
    configure(LogOptions())  # what goes wrong here is a line of the event log too
    descriptors.raise_limit()
    uvloop.run(work(int(sys.argv[1])))


if __name__ == "__main__":
    main()
