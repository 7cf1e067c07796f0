"""A bounded run of what ``make fuzz-models`` does with more files."""

from __future__ import annotations

import random

import pytest

from tests.fuzzing import models
from tests.fuzzing.confined_reading import read_in_runners
from tests.fuzzing.loadable import loadable_datasets, loadable_models
from tests.fuzzing.models import FORMATS, fuzz
from tests.fuzzing.mutations import mutated

FILES = 20


def test_damaged_files_are_let_in_or_refused_with_a_code() -> None:
    findings = fuzz(list(FORMATS), files=FILES, start=7)
    assert [(fault.format, fault.number, fault.said) for fault in findings.faults] == []
    for name in FORMATS:
        counts = findings.counts(name)
        assert sum(counts.values()) == FILES
        assert counts["refused"] > 0, name
    assert sum(findings.counts(name)["let"] for name in FORMATS) > 0


@pytest.mark.slow
def test_damaged_files_that_are_let_in_end_no_runner() -> None:
    good = loadable_models() | loadable_datasets()
    whole = read_in_runners([(name, make()) for name, (_, make) in good.items()])
    assert {read.format: read.said for read in whole} == dict.fromkeys(good, "read")
    let_in = fuzz(good, files=8, start=7, good_files=good).let_in
    assert len(let_in) > len(good)
    ended = [(read.format, read.said) for read in read_in_runners(let_in)]
    assert [said for said in ended if not said[1].startswith(("read", "refused"))] == []


def test_the_same_seed_damages_alike() -> None:
    good = FORMATS["keras2 .h5"][1]()
    made = [mutated(random.Random("1"), good) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0] != mutated(random.Random("2"), good)


def test_a_crash_and_a_hang_are_those_of_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a judge that ends over one file and never ends over another."""
    judge = (
        "import json, os, sys, time\n"
        "for name in json.load(sys.stdin)['files']:\n"
        "    print(name, flush=True)\n"
        "    if name == '1': os.abort()\n"
        "    if name == '3': time.sleep(60)\n"
        "    print('let in', flush=True)\n"
    )
    popen = models.subprocess.Popen
    monkeypatch.setattr(
        models.subprocess, "Popen", lambda command, **options: popen([command[0], "-c", judge], **options)
    )
    monkeypatch.setattr(models, "_EACH_S", 0.5)
    came = dict(models._judged("model", dict.fromkeys(range(5), b"x")))
    assert came == {0: "let in", 1: "crash -6", 2: "let in", 3: "hang", 4: "let in"}
