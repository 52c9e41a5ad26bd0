"""A lent object in a worker: its descriptor lives exactly as long as someone sends from it."""

from __future__ import annotations

import os

import pytest

from cacheserver.workers.borrowed import BorrowedObject


@pytest.fixture
def given() -> list[int]:
    return []


def borrowed(given: list[int]) -> tuple[BorrowedObject, int]:
    fd = os.open(os.devnull, os.O_RDONLY)
    obj = BorrowedObject(7, fd, length_bytes=2500, piece_size_bytes=1000, given=lambda obj: given.append(obj.number))
    return obj, fd


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_every_piece_of_a_lent_object_is_there(given: list[int]) -> None:
    obj, _fd = borrowed(given)
    assert obj.pieces.present(0, 2500)
    obj.withdraw(cut=False)


def test_an_object_that_nobody_sends_is_given_back_at_once(given: list[int]) -> None:
    obj, fd = borrowed(given)
    obj.withdraw(cut=False)
    assert (obj.obsolete, obj.file.fd, is_open(fd), given) == (True, -1, False, [7])


def test_an_answer_under_way_keeps_the_descriptor_and_its_pieces(given: list[int]) -> None:
    obj, fd = borrowed(given)
    obj.hold()
    obj.hold()
    obj.withdraw(cut=False)
    assert obj.pieces.present(0, 2500)
    obj.release()
    assert (is_open(fd), given) == (True, [])
    obj.release()
    assert (is_open(fd), given) == (False, [7])


def test_an_object_that_lost_pieces_has_none_for_answers_under_way(given: list[int]) -> None:
    obj, _fd = borrowed(given)
    obj.hold()
    obj.withdraw(cut=True)
    assert obj.pieces.present_until(0, 2500) == 0
    obj.release()
    assert given == [7]
