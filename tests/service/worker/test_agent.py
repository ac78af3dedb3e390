from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil

from service import protocol as say
from tests.service.worker.conftest import StartWorker
from tests.service.worker.peer import Peer, drop


def test_hello_tells_who_the_worker_is_and_what_it_can(peer: Peer, start_worker: StartWorker) -> None:
    start_worker("--model", "pretend", "--name", "w1")
    hello = peer.talk().hello
    assert (hello.protocol, hello.worker, hello.slots) == (say.PROTOCOL_VERSION, "w1", 1)
    assert hello.models == {"pretend": ("pretend",)}
    assert hello.device.kind == "cpu"
    assert hello.device.memory_bytes > 0
    assert hello.versions["safelight"]
    assert hello.running == ()


def test_a_worker_for_pretend_alone_never_imports_torch(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker()
    talk = peer.talk()
    talk.begin("j1")
    talk.expect(say.Completed)
    for process in (psutil.Process(worker.process.pid), worker.child()):
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libtorch" not in maps
        assert "numpy" not in maps


def test_a_job_goes_from_offer_to_completed(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("j1", attempt=2, token=31, steps=3)
    completed = talk.expect(say.Completed)
    phases = [phase.phase for phase in talk.all(say.Phase)]
    assert (completed.job, completed.attempt, completed.token) == ("j1", 2, 31)
    assert phases == ["denoising"]
    assert completed.artifacts == ()
    assert set(completed.facts) == {"device", "versions", "timings", "batch"}
    assert talk.expect(say.Ready, lambda ready: ready.slots == 1)


def test_computing_starts_only_at_start(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.expect(say.Ready)
    talk.send(say.Offer(offer="o", within_s=5, job="j", task="pretend", model="pretend", params={}))
    talk.expect(say.Accept)
    talk.send(say.Withdraw(offer="o", why="paused"))
    talk.offer_again("other", "pretend", "pretend", 1, 11, {})
    talk.expect(say.Completed)
    assert {message.job for message in talk.received if isinstance(message, say.Reported)} == {"other"}


def test_the_worker_beats_while_it_computes(peer: Peer, start_worker: StartWorker) -> None:
    peer.beat_s = 0.1
    start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=1, step_s=60)
    talk.expect(say.Phase)
    assert len([talk.expect(say.Beat) for _ in range(4)]) == 4


def test_a_cut_session_resumes_and_the_result_comes_once(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    first = peer.talk()
    first.begin("j1", token=12, steps=50, step_s=0.02)
    first.expect(say.Progress, lambda progress: progress.step >= 5)
    first.cut()
    second = peer.talk(2)
    (running,) = second.hello.running
    assert (running.job, running.attempt, running.token) == ("j1", 1, 12)
    assert second.hello.boot == first.hello.boot
    second.expect(say.Completed)
    second.expect(say.Ready)
    assert len(first.all(say.Completed) + second.all(say.Completed)) == 1


def test_what_was_not_acknowledged_is_sent_again_in_order(peer: Peer, start_worker: StartWorker) -> None:
    peer.is_acknowledging = False
    start_worker()
    first = peer.talk()
    first.begin("j1")
    first.expect(say.Completed)
    first.cut()
    second = peer.talk(2)
    second.expect(say.Completed)
    sent, again = ([m for m in talk.received if isinstance(m, say.Reported)] for talk in (first, second))
    assert again == sent
    assert [message.number for message in again] == sorted({message.number for message in again})


def test_an_outcome_survives_kill_9_of_the_agent(peer: Peer, start_worker: StartWorker) -> None:
    peer.is_acknowledging = False
    worker = start_worker()
    first = peer.talk()
    first.begin("j1", token=5)
    number = first.expect(say.Completed).number
    worker.end()
    peer.verdict = lambda held: say.Verdict(job=held.job, attempt=held.attempt, keep=True, token=77)
    start_worker()
    second = peer.talk(2)
    assert [(held.job, held.token) for held in second.hello.running] == [("j1", 5)]
    assert second.hello.boot != first.hello.boot
    completed = second.expect(say.Completed)
    assert (completed.number, completed.token) == (number, 77)


def test_numbers_grow_over_a_restart_of_the_agent(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker()
    peer.talk().begin("j1")
    last = peer.talk().expect(say.Completed).number
    peer.talk().expect(say.Ready)
    worker.end()
    start_worker()
    peer.talk(2).begin("j2")
    # The end may have overtaken an acknowledgement: then what j1 said comes again, under its old numbers.
    assert peer.talk(2).expect(say.Phase, lambda phase: phase.job == "j2").number > last


def test_what_was_computing_when_the_agent_died_is_not_claimed(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker()
    peer.talk().begin("j1", steps=1, step_s=60)
    peer.talk().expect(say.Phase)
    child = worker.child()
    worker.end()
    child.wait(10)
    start_worker()
    assert peer.talk(2).hello.running == ()


def test_an_attempt_that_is_not_kept_is_forgotten(peer: Peer, start_worker: StartWorker) -> None:
    peer.is_acknowledging = False
    start_worker()
    peer.talk().begin("j1")
    peer.talk().expect(say.Completed)
    peer.verdict = drop
    peer.talk().cut()
    second = peer.talk(2)
    second.begin("j2")
    second.expect(say.Completed)
    assert {message.job for message in second.received if isinstance(message, say.Reported)} == {"j2"}


def test_a_computing_attempt_that_is_not_kept_is_stopped(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    peer.talk().begin("j1", steps=100, step_s=60)
    peer.talk().expect(say.Phase)
    peer.verdict = drop
    peer.talk().cut()
    second = peer.talk(2)
    second.begin("j2")  # credit comes only when the child has let go of j1
    second.expect(say.Completed)
    assert {message.job for message in second.received if isinstance(message, say.Reported)} == {"j2"}


def test_a_refusal_for_good_ends_the_worker_with_its_words(peer: Peer, start_worker: StartWorker) -> None:
    peer.refusal = say.Refused(why="protocol 1 is not spoken here", retry=False)
    worker = start_worker()
    assert worker.process.wait(30) == 3
    assert "protocol 1 is not spoken here" in worker.words


def test_a_refusal_for_now_is_tried_again(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    peer.talk().send(say.Refused(why="not heard for longer than the lease", retry=True))
    assert peer.talk(2).hello.boot == peer.talk(1).hello.boot


def test_an_unreachable_service_is_named_in_the_log_and_tried_again(peer: Peer, start_worker: StartWorker) -> None:
    url = "http://127.0.0.1:9"  # the discard port: nobody listens
    worker = start_worker(url=url)
    peer.wait(lambda: f"no session with {url}" in worker.words or None, "the words")
    assert worker.process.poll() is None


def test_a_key_that_is_not_accepted_is_told_and_tried_again(peer: Peer, start_worker: StartWorker) -> None:
    peer.is_open = False
    worker = start_worker()
    peer.wait(lambda: "does not accept the key (HTTP 403)" in worker.words or None, "the words")
    peer.is_open = True
    assert peer.talk().hello


def test_sigterm_lets_a_short_job_finish(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=20, step_s=0.05)
    talk.expect(say.Phase)
    worker.process.send_signal(signal.SIGTERM)
    talk.expect(say.Drain)
    talk.expect(say.Completed)
    assert worker.process.wait(30) == 0


def test_sigterm_hands_a_long_job_back_after_the_grace(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=100, step_s=60)
    talk.expect(say.Phase)
    worker.process.send_signal(signal.SIGTERM)
    assert talk.expect(say.Stopped).job == "j1"
    assert worker.process.wait(30) == 0


def test_a_second_sigterm_ends_the_worker_at_once(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=1, step_s=60)
    talk.expect(say.Phase)
    child = worker.child()
    worker.process.send_signal(signal.SIGTERM)
    talk.expect(say.Drain)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(9) == 1
    assert child.wait(5) is None


def test_the_end_of_stdin_ends_a_worker_that_has_a_parent(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker("--model", "pretend", "--with-parent")
    peer.talk().begin("j1", steps=1, step_s=60)
    peer.talk().expect(say.Phase)
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.process.wait(10) == 0


def test_a_second_worker_on_a_spool_names_the_first(peer: Peer, start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker()
    peer.talk()
    second = start_worker()
    assert second.process.wait(30) == 2
    assert f"process id {worker.process.pid}" in second.words


def test_the_agent_is_ready_to_run_without_heavy_imports() -> None:
    code = (
        "import sys, service.worker.cli; "
        "print([m for m in ('torch', 'diffusers', 'transformers', 'numpy', 'PIL') if m in sys.modules])"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
