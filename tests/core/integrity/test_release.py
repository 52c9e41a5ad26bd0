"""The one decision about bytes: its table, and a machine of sources and statements that lie, come late and vanish."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cacheserver.core.integrity.release import RULES, Facts, Reason, Said, Verdict, decide, table

PAGE = Path(__file__).parents[3] / "docs" / "integrity.md"
COUNT = 3


def every_fact() -> list[Facts]:
    flags = product((False, True), repeat=9)
    return [
        Facts(
            piece=piece,
            whole=whole,
            authentic=a,
            require=require,
            stored=b,
            shown=c,
            complete=d,
            last=e,
            overdue=f,
            broken=g,
            stopping=h,
            gone=i,
        )
        for (a, b, c, d, e, f, g, h, i), piece, whole, require in product(flags, Said, Said, ("any", "anchored"))
    ]


def test_the_page_has_the_table_of_the_code() -> None:
    assert table() in PAGE.read_text()


def test_every_rule_decides_some_case_and_every_reason_has_one_rule() -> None:
    decided = {decide(facts).reason for facts in every_fact()}
    assert decided == set(Reason) == {each.reason for each in RULES}
    assert len(RULES) == len(Reason)


def test_nothing_that_is_contradicted_or_unreachable_is_ever_released() -> None:
    for facts in every_fact():
        released = decide(facts).verdict is Verdict.RELEASE
        assert not (released and Said.CONTRADICTS in (facts.piece, facts.whole)), facts
        assert not (released and Said.UNREACHABLE in (facts.piece, facts.whole)), facts


def test_the_last_missing_piece_is_released_only_when_all_was_compared() -> None:
    for facts in every_fact():
        if facts.last and facts.complete and decide(facts).verdict is Verdict.RELEASE:
            assert Said.PENDING not in (facts.piece, facts.whole), facts
            assert facts.whole is not Said.UNCOMPARED, facts


@pytest.mark.parametrize(
    ("facts", "verdict", "reason"),
    [
        (Facts(piece=Said.CONTRADICTS, stored=True), Verdict.CONDEMN, "bad_at_rest"),
        (Facts(piece=Said.UNCOMPARED, broken=True, shown=True, overdue=True), Verdict.CONDEMN, "broken_after_shown"),
        (Facts(broken=True, shown=True), Verdict.RELEASE, "unstated"),
        (Facts(piece=Said.PENDING, stopping=True, overdue=True), Verdict.REFUSE, "stopped"),
        (Facts(piece=Said.PENDING, overdue=True), Verdict.RELEASE, "late"),
        (Facts(whole=Said.UNCOMPARED, last=True), Verdict.HOLD, "last_is_uncompared"),
        (Facts(whole=Said.UNCOMPARED, last=True, gone=True), Verdict.REFUSE, "said_too_late"),
        (Facts(require="anchored"), Verdict.REFUSE, "not_anchored"),
    ],
)
def test_a_row_of_the_table(facts: Facts, verdict: Verdict, reason: str) -> None:
    assert (decide(facts).verdict, decide(facts).reason.value) == (verdict, reason)


class Sources(RuleBasedStateMachine):
    """One content of three pieces and one reader of all of it. The truth is that every piece is right."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[bool | None] = [None] * COUNT
        """Whether the bytes in service are right; None: there are none."""
        self.held: dict[int, bool] = {}
        self.got: dict[int, bool] = {}
        """What the reader has, right or not."""
        self.shown: dict[int, bool] = {}
        """Pieces of which the reader has some bytes, not verified."""
        self.anew: set[int] = set()
        """Pieces that another answer has begun anew since."""
        self.cut = False
        self.manifest, self.whole = Said.PENDING, Said.PENDING
        self.hashes: list[bool] = [True] * COUNT
        """What the manifest states: a forged one wants wrong bytes."""
        self.authentic = False

    @rule(act=st.integers(0, 59))
    def step(self, act: int) -> None:
        """One thing happens to one piece, or to a statement."""
        piece, what = act % COUNT, act // COUNT
        if self.cut:
            self.cut, self.got, self.shown, self.anew = False, {}, {}, set()  # the client comes again
        if what < 8:
            self.arrive(piece, what & 1 == 1, overdue=what & 2 == 2)
        elif what < 12:
            self.begin(piece, what & 1 == 1)
        elif what < 14:
            self.break_off(piece)
        elif what == 14:
            self.settle_manifest(forged=False, known=True)
        elif what == 15:
            self.settle_manifest(forged=True, known=True)
        elif what == 16:
            self.settle_manifest(forged=False, known=False)
        elif what < 19:
            self.settle_whole(known=what == 17)
        else:
            self.read()

    def said(self, right: bool, piece: int) -> Said:
        if self.manifest is not Said.UNCOMPARED:
            return self.manifest
        return Said.AGREES if right == self.hashes[piece] else Said.CONTRADICTS

    def is_last(self, piece: int) -> bool:
        return self.stored[piece] is None and self.stored.count(None) == 1

    def arrive(self, piece: int, right: bool, *, overdue: bool) -> None:
        """A source has sent a whole piece."""
        if self.stored[piece] is not None:
            return
        if piece not in self.anew:
            right = self.shown.get(piece, right)  # it is the one that was shown
        last, whole = self.is_last(piece), self.whole
        if last and whole is Said.UNCOMPARED and self.manifest is not Said.PENDING:
            others = all(each for at, each in enumerate(self.stored) if at != piece)
            whole = Said.AGREES if right and others else Said.CONTRADICTS
        facts = Facts(piece=self.said(right, piece), whole=whole, last=last, overdue=overdue, shown=piece in self.shown)
        self.act(decide(facts).verdict, piece, right)

    def act(self, verdict: Verdict, piece: int, right: bool) -> None:
        self.held.pop(piece, None)
        if verdict is Verdict.RELEASE:
            self.stored[piece] = right
            if piece in self.shown and self.shown.pop(piece) != right:
                self.got[piece] = False
        elif verdict is Verdict.HOLD:
            self.held[piece] = right
        elif verdict is Verdict.REFUSE:
            self.cut, self.stored, self.held = True, [None] * COUNT, {}
        else:
            self.stored[piece] = None
            self.anew.add(piece)
            self.cut = self.cut or verdict is Verdict.CONDEMN

    def begin(self, piece: int, right: bool) -> None:
        """Some bytes of a piece have arrived, and its reader has waited too long."""
        said = Said.UNCOMPARED if self.manifest is Said.UNCOMPARED else self.manifest
        facts = Facts(piece=said, whole=self.whole, complete=False, overdue=True, last=self.is_last(piece))
        if self.stored[piece] is not None or piece in self.held or piece in self.shown:
            return
        if decide(facts).verdict is Verdict.RELEASE:
            self.shown[piece] = right
            self.anew.discard(piece)

    def break_off(self, piece: int) -> None:
        """The source breaks; the next answer, perhaps of another source, begins the piece anew."""
        said = self.manifest if self.manifest is not Said.NOTHING else self.whole
        facts = Facts(piece=said, shown=piece in self.shown, broken=True, overdue=True)
        if decide(facts).verdict is Verdict.CONDEMN:
            self.cut = True
        elif piece in self.shown:
            self.anew.add(piece)

    def settle_manifest(self, *, forged: bool, known: bool) -> None:
        """A manifest comes, or it is known that none does."""
        if self.manifest is not Said.PENDING or (forged and self.authentic):
            return
        self.manifest, self.hashes = (Said.UNCOMPARED if known else Said.NOTHING), [not forged] * COUNT
        for piece, right in enumerate(self.stored):
            if (
                right is not None
                and decide(Facts(piece=self.said(right, piece), stored=True)).verdict is not Verdict.RELEASE
            ):
                self.act(Verdict.CONDEMN, piece, right)
        self.again()

    def settle_whole(self, *, known: bool) -> None:
        """An authentic digest of the whole comes, or none does; it is compared at the latest with the last piece."""
        if self.whole is Said.PENDING:
            self.whole, self.authentic = (Said.UNCOMPARED if known else Said.NOTHING), known
            self.again()

    def again(self) -> None:
        for piece, right in list(self.held.items()):
            if piece in self.held:
                self.arrive(piece, right, overdue=False)

    def read(self) -> None:
        """The reader takes what is in service."""
        for piece, right in enumerate(self.stored):
            if right is not None:
                self.got.setdefault(piece, right)

    @invariant()
    def no_complete_body_is_wrong_where_something_authentic_determines_it(self) -> None:
        if self.authentic and not self.cut and len(self.got) == COUNT:
            assert all(self.got.values())

    @invariant()
    def nothing_that_is_contradicted_is_completely_stored(self) -> None:
        if self.authentic and None not in self.stored:
            assert all(self.stored)


TestSources = Sources.TestCase
TestSources.settings = settings(
    max_examples=2000, stateful_step_count=50, deadline=None, database=None, phases=(Phase.generate, Phase.shrink)
)
"""100,000 steps."""
