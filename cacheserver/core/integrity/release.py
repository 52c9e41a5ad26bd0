"""Whether bytes may go out: the one decision, about bytes under way and about bytes at rest.

Owns: the ordered rules, and the reason of each outcome. Fills, relays and openings ask about a piece under way, the
scrubber about a stored piece, the judge of stored objects about all that is stored of one. Callers collect the facts
and act on the decision; no rule of theirs contradicts it. ``docs/integrity.md`` has the same table; a test compares
them. Must not compute digests. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Said(Enum):
    """What the statements about a piece, or about the whole content, amount to."""

    NOTHING = "nothing is stated"
    PENDING = "a statement may still come"
    UNREACHABLE = "there may be a statement, and every source of it is banned or contradicts itself"
    UNCOMPARED = "something is stated, and not compared yet"
    AGREES = "the bytes are what is stated"
    CONTRADICTS = "the bytes are not what is stated"


class Verdict(Enum):
    """What happens to the bytes."""

    RELEASE = "they go out, and are stored"
    HOLD = "they wait"
    REFUSE = "nothing goes out and nothing is stored; whoever got some is cut"
    RE_ASK = "they are dropped and asked for again"
    CONDEMN = "they are taken out of service, whoever got some is cut, and they are asked for again"


class Reason(Enum):
    """Why; the value is the word in logs and metrics."""

    NO_SOURCE = "no_source"
    SAID_TOO_LATE = "said_too_late"
    WRONG_CONTENT = "wrong_content"
    BAD_AT_REST = "bad_at_rest"
    BAD_PIECE_SHOWN = "bad_piece_shown"
    BAD_PIECE = "bad_piece"
    BROKEN_AFTER_SHOWN = "broken_after_shown"
    STOPPED = "stopped"
    NOT_ANCHORED = "not_anchored"
    LAST_IS_PENDING = "last_is_pending"
    PENDING = "pending"
    LAST_IS_UNCOMPARED = "last_is_uncompared"
    SHOWN_EARLY = "shown_early"
    INCOMPLETE = "incomplete"
    LATE = "late"
    STORED_IS_UNCOMPARED = "stored_is_uncompared"
    STORED_IS_PENDING = "stored_is_pending"
    VERIFIED = "verified"
    WHOLE_VERIFIED = "whole_verified"
    UNSTATED = "unstated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one piece and of its whole content. An empty content is one last piece that is complete."""

    piece: Said = Said.NOTHING
    """By a manifest, or by the digest that was recorded when the piece was stored."""
    whole: Said = Said.NOTHING
    """By a digest or hash of hashes; statements about other bytes (another content coding) are not counted."""
    authentic: bool = False
    """Whether an authentic statement determines the content, by pieces or as a whole."""
    require: str = "any"
    """The service's setting: ``any`` or ``anchored``."""
    stored: bool = False
    """Whether it is at rest, and not under way."""
    shown: bool = False
    """Whether some of its bytes, not verified, went to a client."""
    complete: bool = True
    last: bool = False
    """Whether it is the only piece that is missing."""
    overdue: bool = False
    """Whether its reader has waited for ``fill.hold_timeout_s``."""
    broken: bool = False
    """Whether its source has broken off, so that another answer begins the piece anew."""
    stopping: bool = False
    gone: bool = False
    """Whether the bytes went by before it was said what they must be, so that nobody can compare them any more."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: ``when`` is ``test`` in words."""

    when: str
    verdict: Verdict
    reason: Reason
    test: Callable[[Facts], bool]


def _unsure(facts: Facts) -> bool:
    """Whether anything is stated, or may be, that the bytes were not compared with."""
    open_ends = (Said.PENDING, Said.UNREACHABLE, Said.UNCOMPARED)
    return facts.piece in open_ends or facts.whole in open_ends


def _pending(facts: Facts) -> bool:
    return Said.PENDING in (facts.piece, facts.whole)


RULES: Final = (
    Rule(
        "a stored piece is not what is stated",
        Verdict.CONDEMN,
        Reason.BAD_AT_REST,
        lambda f: f.stored and f.piece is Said.CONTRADICTS,
    ),
    Rule(
        "the whole is not what is stated",
        Verdict.REFUSE,
        Reason.WRONG_CONTENT,
        lambda f: f.whole is Said.CONTRADICTS,
    ),
    Rule(
        "the end of bytes that have gone by before it was said what the whole must be",
        Verdict.REFUSE,
        Reason.SAID_TOO_LATE,
        lambda f: f.whole is Said.UNCOMPARED and f.gone and f.last,
    ),
    Rule(
        "every source of the statement is banned, or it contradicts the content",
        Verdict.REFUSE,
        Reason.NO_SOURCE,
        lambda f: Said.UNREACHABLE in (f.piece, f.whole),
    ),
    Rule(
        "a piece is not what is stated, and some of it was shown",
        Verdict.CONDEMN,
        Reason.BAD_PIECE_SHOWN,
        lambda f: f.piece is Said.CONTRADICTS and f.shown,
    ),
    Rule(
        "a piece is not what is stated",
        Verdict.RE_ASK,
        Reason.BAD_PIECE,
        lambda f: f.piece is Said.CONTRADICTS,
    ),
    Rule(
        "the source broke off, some of the piece was shown, and something is or may be stated",
        Verdict.CONDEMN,
        Reason.BROKEN_AFTER_SHOWN,
        lambda f: f.broken and f.shown and _unsure(f),
    ),
    Rule(
        "the node stops while a statement may still come",
        Verdict.REFUSE,
        Reason.STOPPED,
        lambda f: f.stopping and _pending(f),
    ),
    Rule(
        "`require = \"anchored\"`, no authentic statement, and none can come",
        Verdict.REFUSE,
        Reason.NOT_ANCHORED,
        lambda f: f.require == "anchored" and not f.authentic and not _pending(f),
    ),
    Rule(
        "stored content, before its whole was compared",
        Verdict.HOLD,
        Reason.STORED_IS_UNCOMPARED,
        lambda f: f.stored and f.whole is Said.UNCOMPARED,
    ),
    Rule(
        "stored content that nothing has to anchor, or something does, while a statement may still come",
        Verdict.RELEASE,
        Reason.STORED_IS_PENDING,
        lambda f: f.stored and not f.last and _pending(f) and (f.authentic or f.require == "any"),
    ),
    Rule(
        "the last missing piece, while a statement may still come",
        Verdict.HOLD,
        Reason.LAST_IS_PENDING,
        lambda f: f.last and _pending(f),
    ),
    Rule(
        "the last missing piece, before the whole was compared",
        Verdict.HOLD,
        Reason.LAST_IS_UNCOMPARED,
        lambda f: f.last and f.whole is Said.UNCOMPARED,
    ),
    Rule(
        "an incomplete piece that is or may be stated, and its reader has waited for `fill.hold_timeout_s`: all but "
        "the last byte of the answer",
        Verdict.RELEASE,
        Reason.SHOWN_EARLY,
        lambda f: not f.complete and f.piece in (Said.PENDING, Said.UNCOMPARED) and f.overdue,
    ),
    Rule(
        "an incomplete piece that is or may be stated",
        Verdict.HOLD,
        Reason.INCOMPLETE,
        lambda f: not f.complete and f.piece in (Said.PENDING, Said.UNCOMPARED),
    ),
    Rule(
        "a statement may still come, and the piece has waited for `fill.hold_timeout_s`: compared when it comes",
        Verdict.RELEASE,
        Reason.LATE,
        lambda f: _pending(f) and f.overdue,
    ),
    Rule("a statement may still come", Verdict.HOLD, Reason.PENDING, _pending),
    Rule(
        "the piece is what is stated",
        Verdict.RELEASE,
        Reason.VERIFIED,
        lambda f: f.piece is Said.AGREES,
    ),
    Rule(
        "the whole is what is stated",
        Verdict.RELEASE,
        Reason.WHOLE_VERIFIED,
        lambda f: f.whole is Said.AGREES,
    ),
    Rule("nothing is stated, or only of the whole, which is compared with its last piece", Verdict.RELEASE,
         Reason.UNSTATED, lambda f: True),
)  # fmt: skip
"""The first rule that fits decides."""


REFUSED: Final = (
    *(rule.reason.value for rule in RULES if rule.verdict not in (Verdict.RELEASE, Verdict.HOLD)),
    Reason.PENDING.value,
)
"""The reasons that metrics and the log name; ``pending`` where stored content is withheld."""


def decide(facts: Facts) -> Rule:
    """The rule that decides: its verdict and its reason."""
    return next(rule for rule in RULES if rule.test(facts))


def table() -> str:
    """The rules as the page shows them."""
    rows = (f"| {rule.when} | {rule.verdict.name.lower()} | `{rule.reason.value}` |" for rule in RULES)
    return "\n".join(("| the first that fits | verdict | reason |", "|---|---|---|", *rows))
