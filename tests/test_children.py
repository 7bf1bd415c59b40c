"""Child processes that answer in JSON lines: what is lost when one hangs, ends or is killed."""

from __future__ import annotations

import os
import sys

import pytest

import edgeprune
from edgeprune.children import Child, ChildGoneError, Waiting, running

ECHO = (
    "import sys, json, edgeprune.children as c\n"
    "say = c.answering()\n"
    "print('a library says something')\n"
    "for line in sys.stdin:\n"
    "    request = json.loads(line)\n"
    "    if request.get('sleep'): import time; time.sleep(30)\n"
    "    if request.get('exit'): sys.exit(3)\n"
    "    say({'got': request, 'from': c.__file__})\n"
)


def echo() -> Child:
    return Child((sys.executable, "-P", "-c", ECHO), quiet=True)


def test_an_answer_is_what_was_said_and_comes_from_this_very_package():
    child = echo()
    large = {"text": "x" * 3_000_000}
    assert child.exchange({"n": 1}) == {"got": {"n": 1}, "from": edgeprune.children.__file__}
    assert child.exchange(large)["got"] == large
    assert child.end() == "ended with exit code 0"


def test_one_that_ends_or_does_not_answer_in_time_is_gone():
    child = echo()
    child.exchange({"n": 1})
    with pytest.raises(ChildGoneError, match=r"no answer in 0\.2 s"):
        child.exchange({"sleep": True}, 0.2)
    child.process.kill()
    assert child.end() == "was killed by SIGKILL"
    other = echo()
    with pytest.raises(ChildGoneError, match="the process ended"):
        other.exchange({"exit": True})
    assert other.end() == "ended with exit code 3"
    false = Child(("false",))
    with pytest.raises(ChildGoneError):
        false.exchange({"n": 1})
    assert false.end() == "ended with exit code 1"


def test_children_wait_for_the_next_question_and_dead_ones_are_passed_over():
    waiting = Waiting(most=2)
    first, second, third = echo(), echo(), echo()
    for child in (first, second, third):
        waiting.keep(child)
    assert len(waiting) == 2
    third.process.wait(10)  # there was no room: its input ended
    second.process.kill()
    second.process.wait()
    assert waiting.take() is first
    assert waiting.take() is None
    waiting.keep(first)
    waiting.end()
    assert first.process.returncode == 0


def test_the_end_waits_no_longer_than_it_was_told():
    waiting, slow = Waiting(patience_s=0.1), echo()
    with pytest.raises(ChildGoneError):
        slow.exchange({"sleep": True}, 0.5)
    waiting.dismiss(slow)
    waiting.end()
    assert slow.alive
    slow.kill()


def test_a_child_loads_nothing_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    child = echo()
    assert child.exchange({"n": 1})["got"] == {"n": 1}
    child.end()
    assert running("edgeprune.compiler.workers")[1:] == ("-P", "-m", "edgeprune.compiler.workers")
    assert os.path.isfile(sys.executable)
