"""The command line: flags to settings, errors to one line and an exit code.

Owns: the list of commands, and the one place where errors become exit codes: 2 for configuration and usage, 1 for
run-time trouble, 0 for a clean stop. Imports the node only when it is to be run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import click

import cacheserver
from cacheserver.cli.bundle import export_command, import_command
from cacheserver.cli.catalogue import catalogue_group
from cacheserver.cli.check_config import check_config_command
from cacheserver.cli.client_config import client_config_command, firewall_list_command
from cacheserver.cli.content import pin_command, pins_command, purge_command, unpin_command
from cacheserver.cli.doctor import doctor_command
from cacheserver.cli.fetch import fetch_command
from cacheserver.cli.health import health_command
from cacheserver.cli.log_summary import log_group
from cacheserver.cli.options import with_settings
from cacheserver.cli.output import EXIT_FAILED, EXIT_USAGE, say, tell
from cacheserver.cli.scrub import scrub_command, verify_command
from cacheserver.cli.tls import tls_group
from cacheserver.core.errors import CacheserverError
from cacheserver.node.preflight import warn_of_settings
from cacheserver.settings.load import Flags, load_settings
from cacheserver.settings.schema import Settings

_STDERR: Final = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(cacheserver.__version__, prog_name="cacheserver", message="%(prog)s %(version)s")
def cli() -> None:
    """An open, verifying Connected Cache node for Delivery Optimization clients."""


@cli.command()
@with_settings
def serve(config: str | None, flags: Flags) -> int:
    """Run the node until SIGTERM or SIGINT; SIGHUP reads the settings again."""
    from cacheserver.node.lifetime import run as run_node

    def load() -> Settings:
        settings = load_settings(config, flags)
        warn_of_settings(config, settings)
        return settings

    return run_node(load)


cli.add_command(catalogue_group)
cli.add_command(check_config_command)
cli.add_command(client_config_command)
cli.add_command(doctor_command)
cli.add_command(fetch_command)
cli.add_command(firewall_list_command)
cli.add_command(export_command)
cli.add_command(import_command)
cli.add_command(health_command)
cli.add_command(log_group)
cli.add_command(pin_command)
cli.add_command(pins_command)
cli.add_command(purge_command)
cli.add_command(scrub_command)
cli.add_command(unpin_command)
cli.add_command(verify_command)
cli.add_command(tls_group)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; expected errors become one line on stderr."""
    try:
        result = cli.main(args=arguments, prog_name="cacheserver", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as exc:
        say(exc.format_message(), err=True, lines=True)
        return EXIT_USAGE
    except click.ClickException as exc:
        return _report(exc.format_message(), EXIT_USAGE)
    except click.Abort:
        return _report("interrupted", EXIT_FAILED)
    except CacheserverError as exc:
        return _report(str(exc), exc.exit_code)
    except BrokenPipeError:
        return EXIT_FAILED
    except OSError as exc:
        return _report(_os_error(exc), EXIT_FAILED)
    except Exception as exc:
        if _serves(arguments):
            raise  # a node's end is worth its traceback
        return _report(f"{_place(exc)}: {type(exc).__name__}: this is a fault of the command; please report it", 1)


def main() -> None:
    """Entry point of the installed command."""
    _fill_standard_descriptors()
    sys.excepthook = _tell_uncaught
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)
    try:
        code = run()
    except _Left as exc:
        signal.signal(exc.number, signal.SIG_DFL)
        os.kill(os.getpid(), exc.number)  # now that nothing half done is left, end as told
        raise
    _drop_what_cannot_be_written()
    sys.exit(code)


def _tell_uncaught(kind: type[BaseException], exc: BaseException, at: TracebackType | None) -> None:
    """Print a traceback, whose message may hold anything, as all other text is printed."""
    say("".join(traceback.format_exception(kind, exc, at)), end="", err=True, lines=True)


class _Left(SystemExit):
    """A signal said to end."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def _leave(number: int, _frame: object) -> None:
    """Unwind, so that unfinished files are removed; a node that runs has handlers of its own."""
    raise _Left(number)


def _serves(arguments: Sequence[str] | None) -> bool:
    return "serve" in (sys.argv[1:] if arguments is None else arguments)[:1]


def _place(exc: Exception) -> str:
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"


def _fill_standard_descriptors() -> None:
    """Give a command that was started without stdin, stdout or stderr none, lest a socket takes their numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)


def _report(message: str, code: int) -> int:
    with contextlib.suppress(OSError):
        tell(f"error: {' '.join(message.split())}")
    return code


def _os_error(exc: OSError) -> str:
    """One line for the errors that starting a node meets: a port taken, a directory that cannot be used."""
    what = exc.strerror or str(exc)
    if exc.errno == errno.EADDRINUSE and "address" not in what.lower():
        what = f"address already in use: {what}"
    return f"{exc.filename}: {what}" if exc.filename is not None else what


def _drop_what_cannot_be_written() -> None:
    """Keep the interpreter from complaining about a closed pipe or a full disk once more at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # as where a descriptor was closed from the first
                stream.flush()
        except OSError:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, stream.fileno())
            os.close(devnull)
