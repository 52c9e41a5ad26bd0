"""Nothing that is copied from a page fails: each block is run in a lab, checked as data, or says why it is not run."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import click
import pytest

from cacheserver.cli.main import cli
from cacheserver.settings.load import Flags, load_settings
from tests.docs.blocks import ROOT, Block, blocks, pages
from tests.docs.lab import run_blocks, why_no_lab
from tests.docs.scenes import SCENES

DRAWINGS = {"text", "layers"}
DATA = {"toml", "json", "ini"}
ALL = [block for page in pages() for block in blocks(page)]
RUN = {
    page: [block for block in ALL if block.page == page and block.kind == "sh" and not block.reason] for page in SCENES
}


def of(kind: str) -> list[Block]:
    return [block for block in ALL if block.kind == kind]


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)
def test_every_block_is_run_or_checked_or_says_why_it_is_not(block: Block) -> None:
    assert block.kind in DRAWINGS | DATA | {"sh"}
    if block.kind == "sh":
        assert block.reason or block in RUN.get(block.page, []), "give its page a scene, or the block a reason"
        assert not block.reason or len(block.marks) == 1, "what is not run prints nothing"


def test_every_scene_has_a_block_to_run_and_what_comes_before_one_meets_it() -> None:
    for page, scene in SCENES.items():
        assert RUN[page], page
        for part in scene.before:
            assert any(part in block.text for block in RUN[page]), (page, part)


def commands_in_prose() -> list[tuple[str, str]]:
    """Page and words of every command of ours between back-quotes, and in blocks that are not run.

    ``cacheserver bundle object v1`` is a text that is signed.
    """
    found = []
    for page in pages():
        spans = re.findall(
            r"`cacheserver (?!bundle \w+ v1)([^`]*)`", (ROOT / page).read_text(encoding="utf-8").replace("\n", " ")
        )
        skipped = [block.text for block in ALL if block.page == page and block.reason]
        found += [(page, words) for words in spans]
        found += [(page, words) for text in skipped for words in re.findall(r"(?m)^cacheserver ([^#\n]*)", text)]
    return found


@pytest.mark.parametrize(("page", "words"), commands_in_prose())
def test_a_command_in_a_sentence_exists_with_its_flags(page: str, words: str) -> None:
    command: click.Command = cli
    for word in re.split(r"\s+", words.strip()):
        if isinstance(command, click.Group) and not word.startswith("-"):
            for name in word.split("|"):
                assert name in command.commands, f"{page}: cacheserver {words}"
            command = command.commands[word.split("|")[0]]
        elif word.startswith("--"):
            flags = {flag for option in command.params for flag in option.opts}
            assert word.partition("=")[0] in flags, f"{page}: cacheserver {words}"


@pytest.mark.parametrize("block", of("toml"), ids=lambda block: block.place)
def test_settings_of_a_page_are_settings(block: Block, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(block.text, encoding="utf-8")
    load_settings(str(tmp_path / "c.toml"), Flags())


@pytest.mark.parametrize("block", of("json"), ids=lambda block: block.place)
def test_json_of_a_page_is_json(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("block", of("ini"), ids=lambda block: block.place)
def test_a_unit_of_a_page_can_be_read(block: Block) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(block.text)
    assert parser.sections()


@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(why_no_lab()), reason=why_no_lab())
@pytest.mark.parametrize("page", SCENES)
def test_the_commands_of_a_page_do_what_it_says(page: str, tmp_path: Path) -> None:
    for ran in run_blocks(tmp_path, SCENES[page].setup, RUN[page], SCENES[page].before):
        where = f"{ran.block.place}\n{ran.block.text}\n{ran.output[-3000:]}"
        assert ran.exit_code == ran.block.exit_code, where
        rest = " ".join(ran.output.split())
        for part in ran.block.printed:
            assert part in rest, f"{part!r} is not printed, or not in this order: {where}"
            rest = rest.partition(part)[2]
