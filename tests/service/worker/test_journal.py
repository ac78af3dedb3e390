from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.protocol import Completed, Phase, Reported, RunningAttempt, Stopped
from service.worker.frames import SpooledFile
from service.worker.journal import Journal, JournalUnreadable, Result

FILE = SpooledFile(name="a.png", digest="d" * 64, media_type="image/png", bytes=3)


def phase(job: str, attempt: int = 1, token: int = 1) -> Phase:
    return Phase(number=0, job=job, attempt=attempt, token=token, phase="denoising")


def completed(job: str, attempt: int = 1, token: int = 1) -> Completed:
    return Completed(number=0, job=job, attempt=attempt, token=token, artifacts=(), facts={"seed": 1})


def result(job: str, attempt: int = 1, token: int = 1) -> Result:
    return Result(job=job, attempt=attempt, token=token, files=(FILE,), facts={})


def test_a_message_is_read_back_under_its_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    first, second = journal.write(phase("a")), journal.write(completed("a"))
    assert [first.number, second.number] == [1, 2]
    assert journal.after(0) == [first, second]
    assert journal.after(1) == [second]


def test_an_acknowledged_outcome_ends_its_attempt(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.write(phase("a"))
    last = journal.write(completed("a"))
    journal.write(phase("b"))
    assert journal.acknowledge(last.number - 1) == []
    assert journal.acknowledge(last.number) == [("a", 1)]
    assert [message.job for message in journal.after(0)] == ["b"]


def test_numbers_are_not_used_again_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    number = journal.write(completed("a")).number
    journal.acknowledge(number)
    journal.close()
    assert Journal(tmp_path / "journal.db").write(phase("b")).number > number


def test_what_unfinished_attempts_said_is_forgotten_at_the_next_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    for job in ("computing", "uploading", "done"):
        journal.write(phase(job))
    journal.keep(result("uploading"))
    journal.write(completed("done"))
    journal.close()
    again = Journal(tmp_path / "journal.db")
    assert {message.job for message in again.after(0)} == {"uploading", "done"}
    assert {held.job for held in again.held()} == {"uploading", "done"}


def test_a_new_token_stands_on_everything_of_the_attempt(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.write(phase("a", token=4))
    journal.write(phase("b", token=5))
    journal.keep(result("a", token=4))
    journal.restamp("a", 1, 9)
    assert [message.token for message in journal.after(0)] == [9, 5]
    kept = journal.result("a", 1)
    assert kept is not None
    assert kept.token == 9
    assert journal.held() == [RunningAttempt(job="a", attempt=1, token=9)]


def test_dropping_an_attempt_names_the_files_it_leaves(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.write(completed("a", attempt=2))
    journal.keep(result("a", attempt=2))
    journal.write(completed("a", attempt=3))
    assert journal.drop("a", 2) == (FILE,)
    assert journal.drop("a", 2) == ()
    assert [message.attempt for message in journal.after(0)] == [3]


def test_a_file_that_is_no_journal_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 50)
    with pytest.raises(JournalUnreadable, match=r"journal\.db cannot be read .*--spool"):
        Journal(path)


def test_a_journal_of_another_format_is_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "journal.db")
    database.execute("PRAGMA user_version=7")
    database.close()
    with pytest.raises(JournalUnreadable, match="format 7"):
        Journal(tmp_path / "journal.db")


JOBS = st.sampled_from(["a", "b", "c"])


class JournalAgainstAList(RuleBasedStateMachine):
    """The journal behaves as a list of messages and a dict of results would, over any number of restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.db"
        self.journal = Journal(self.path)
        self.messages: list[Reported] = []
        self.results: dict[str, Result] = {}
        self.highest = 0

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()

    @rule(job=JOBS, token=st.integers(1, 9), is_last=st.booleans())
    def write(self, job: str, token: int, is_last: bool) -> None:
        last = Stopped(number=0, job=job, attempt=1, token=token, step=3)
        message = self.journal.write(last if is_last else phase(job, token=token))
        assert message.number > self.highest
        self.highest = message.number
        self.messages.append(message)

    @rule(job=JOBS, token=st.integers(1, 9))
    def keep(self, job: str, token: int) -> None:
        self.results[job] = result(job, token=token)
        self.journal.keep(self.results[job])

    @rule(back=st.integers(0, 5))
    def acknowledge(self, back: int) -> None:
        through = self.highest - back
        ended = self.journal.acknowledge(through)
        assert ended == [
            (m.job, m.attempt) for m in self.messages if m.number <= through and isinstance(m, Stopped)
        ]
        self.messages = [message for message in self.messages if message.number > through]

    @rule(job=JOBS, token=st.integers(10, 99))
    def restamp(self, job: str, token: int) -> None:
        self.journal.restamp(job, 1, token)
        self.messages = [_stamped(m, token) if m.job == job else m for m in self.messages]
        if job in self.results:
            self.results[job] = result(job, token=token)

    @rule(job=JOBS)
    def drop(self, job: str) -> None:
        files = self.journal.drop(job, 1)
        assert bool(files) == (job in self.results)
        self.results.pop(job, None)
        self.messages = [message for message in self.messages if message.job != job]

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal(self.path)
        ended = {message.job for message in self.messages if isinstance(message, Stopped)}
        self.messages = [m for m in self.messages if m.job in ended or m.job in self.results]

    @invariant()
    def it_holds_the_same(self) -> None:
        assert self.journal.after(0, limit=1000) == self.messages
        assert {kept.job: kept for kept in self.journal.results()} == self.results
        outcomes = {m.job for m in self.messages if isinstance(m, Stopped)} | set(self.results)
        assert {held.job for held in self.journal.held()} == outcomes


def _stamped(message: Reported, token: int) -> Reported:
    return type(message)(**{**{f: getattr(message, f) for f in message.__struct_fields__}, "token": token})


TestJournalAgainstAList = JournalAgainstAList.TestCase
TestJournalAgainstAList.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
