"""Which log goes where: lines, and the writers that they leave by.

Owns: the choice of form and writer at the start. Must not format or write anything itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.logs.access_combined import CombinedLines
from cacheserver.logs.access_json import AccessLogLines
from cacheserver.logs.events import LogOptions
from cacheserver.logs.writer import LineWriter


@dataclass(frozen=True, slots=True)
class Logs:
    """Where lines go, as the settings said at the start; ``file`` is ``stderr`` where the access log has none."""

    access: AccessLogLines | None
    file: LineWriter
    stderr: LineWriter

    @property
    def dropped(self) -> int:
        """Lines that were dropped."""
        return sum(writer.dropped for writer in {self.file, self.stderr})


def build_logs(options: LogOptions, stderr: LineWriter) -> Logs:
    """The logs as the settings have them. ConfigError where the access log's file cannot be opened."""
    if not options.access:
        return Logs(None, stderr, stderr)
    file = LineWriter(options.access_file) if options.access_file else stderr
    kind = CombinedLines if options.access_format == "combined" else AccessLogLines
    return Logs(kind(file.put), file, stderr)
