"""Two records of a node's pins made one: what a volume brings back that was away while pins were changed.

Owns: the rule. Each pin and each end of a pin carries the number of its change, which every volume counts on from what
it knows. Of one content the later change holds; of two with one number, as halves apart can make them, the pin holds:
an operator can end it again, and does not notice one that is lost. Pure.
"""

from __future__ import annotations

from cacheserver.maintenance.pins_file import MOST_PINS, EndedPin, SavedPin, SavedPins


def merged(here: SavedPins, there: SavedPins) -> SavedPins:
    """Both as one record, in the order of ``here``, then that of ``there``."""
    latest: dict[str, SavedPin | EndedPin] = {}
    entries: list[SavedPin | EndedPin] = [*here.pins, *here.ended, *there.pins, *there.ended]
    for entry in entries:
        known = latest.get(entry.object_id)
        if known is None or _weight(entry) > _weight(known):
            latest[entry.object_id] = entry
    pins = tuple(entry for entry in latest.values() if isinstance(entry, SavedPin))
    ended = [entry for entry in latest.values() if isinstance(entry, EndedPin)]
    return SavedPins(max(here.number, there.number), pins[:MOST_PINS], newest(ended))


def newest(ended: list[EndedPin]) -> tuple[EndedPin, ...]:
    """As many ends of pins as are kept, the latest."""
    return tuple(sorted(ended, key=lambda entry: (entry.changed, entry.object_id))[-MOST_PINS:])


def _weight(entry: SavedPin | EndedPin) -> tuple[int, bool]:
    return entry.changed, isinstance(entry, SavedPin)
