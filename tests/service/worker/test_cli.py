from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from service.worker.cli import worker


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--server", "gpu.example"], "use http://HOST:PORT"),
        (["--server", "ftp://gpu.example"], "use http://HOST:PORT"),
        (["--device", "gpu"], "use auto, cpu, cuda:N or mps"),
        (["--model", "dall-e"], "use demo, pretend"),
        (["--threads", "-1"], "0<=x<=1024"),
        (["--key-file", "/nowhere/key"], "does not exist"),
        (["--key", "k", "--key-file", __file__], "use one of them"),
        (["--unknown"], "No such option"),
    ],
)
def test_a_misuse_exits_2_and_says_what_to_use(options: list[str], words: str) -> None:
    done = CliRunner().invoke(worker, options)
    assert done.exit_code == 2
    assert words in done.output


def test_an_empty_key_file_is_a_misuse(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    done = CliRunner().invoke(worker, ["--key-file", str(tmp_path / "key")])
    assert done.exit_code == 2
    assert "is empty" in done.output


def test_a_spool_that_cannot_be_made_is_a_misuse(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(worker, ["--model", "pretend", "--spool", str(tmp_path / "file" / "spool")])
    assert done.exit_code == 2
    assert "give another --spool" in done.output


def test_the_help_states_every_default() -> None:
    text = CliRunner().invoke(worker, ["--help"]).output
    options = [option for option in worker.params if option.name != "help"]
    assert text.count("default") >= len(options) - 3  # --key-file and the flags speak for themselves
