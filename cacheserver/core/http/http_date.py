"""HTTP-date in its three forms (RFC 9110 §5.6.7).

Owns: reading and writing dates as Unix seconds. Must not look at a clock, a locale or a time zone.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DAY, _MON = "|".join(_DAYS), "|".join(_MONTHS)
_LONG_DAY = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# RFC 9111 §4.2: a cache should match the names without case, and take no zone but GMT.
_FORMS = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        rf"(?:{_DAY}), (?P<day>[0-9]{{2}}) (?P<month>{_MON}) (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"(?:{_LONG_DAY}), (?P<day>[0-9]{{2}})-(?P<month>{_MON})-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"(?:{_DAY}) (?P<month>{_MON}) (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)


def parse_http_date(value: str, *, now_s: float | None = None) -> float | None:
    """Unix seconds of an HTTP-date, or None where the text is none; never raises.

    Strict in form: no other zone, no missing digit, no date that does not exist. A weekday of another date is read
    over: it adds nothing, and a date that is not read makes an answer stale, or a validator useless.
    ``now_s`` decides the century of the obsolete two-digit year: never more than 50 years ahead of it. Without it,
    69 to 99 are taken as 19xx.
    """
    text = value.strip(" \t")
    for form in _FORMS:
        if (found := form.fullmatch(text)) is not None:
            break
    else:
        return None
    year, month, day = int(found["year"]), _MONTHS.index(found["month"].title()) + 1, int(found["day"])
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    if second > 60:
        return None
    if len(found["year"]) == 2:
        year += 1900 if now_s is None and year >= 69 else 2000
    # A leap second is in the grammar, but not in Unix time: it is the second after.
    try:
        moment = datetime(year, month, day, hour, minute, 0, tzinfo=UTC)
        if len(found["year"]) == 2 and now_s is not None:
            moment = _within_fifty_years(moment, now_s)
    except (ValueError, OverflowError):
        return None
    return (moment - _EPOCH).total_seconds() + second


def _within_fifty_years(moment: datetime, now_s: float) -> datetime:
    """Move ``moment`` by centuries to the latest year that is not more than 50 years after ``now_s``."""
    now = _EPOCH + timedelta(seconds=now_s)
    century = now.year // 100 + 1
    while True:
        year = century * 100 + moment.year % 100
        # Years are compared before the day: 29 February need not exist 50 years on.
        ahead = (year - 50, moment.month, moment.day, moment.hour, moment.minute)
        if ahead <= (now.year, now.month, now.day, now.hour, now.minute):
            return moment.replace(year=year)
        century -= 1


def format_http_date(time_s: float) -> str:
    """The preferred form of a Unix time, fractions rounded down. Raises OverflowError outside the years 1 to 9999."""
    return format_datetime(_EPOCH + timedelta(seconds=math.floor(time_s)), usegmt=True)
