"""``python -m cacheserver``: the same as the installed command."""

from cacheserver.cli.main import main

if __name__ == "__main__":
    main()
