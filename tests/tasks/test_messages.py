"""What is accepted out of the queue, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.messages import DELIVER, MessageRefused, NoMessageKey, Seal, new_message_key, opened, sealed
from tasks.settings import Settings

OLD, NEW = new_message_key(), new_message_key()
JOB = "job_abcdefghijklmnopqrstuvwxyz"


def message(arguments: Any, **changes: Any) -> dict[str, Any]:
    return {
        "body": base64.b64encode(json.dumps(arguments).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "tasks.run_job", "id": "x"},
        "properties": {
            "delivery_tag": "tag",
            "delivery_info": {"exchange": "", "routing_key": "tensorflow"},
            "body_encoding": "base64",
            "priority": 3,
        },
        **changes,
    }


def signed(job_id: str = JOB, key: str = NEW) -> list[Any]:
    return [[job_id, Seal([key]).sign(job_id)], {}, {}]


def test_message_signed_with_an_accepted_key_is_opened() -> None:
    clean = opened(message(signed()), Seal([NEW]))
    assert sealed(clean) == ("tasks.run_job", JOB, Seal([NEW]).sign(JOB))
    assert clean["properties"]["delivery_info"]["routing_key"] == "tensorflow"
    assert clean["properties"]["priority"] == 3


def test_what_is_not_signed_does_not_come_along() -> None:
    body = signed()
    body[2] = {"callbacks": [{"task": "other"}], "chain": []}
    clean = opened(
        message(body, headers={"task": "tasks.run_job", "id": "x", "eta": "2999-01-01", "timelimit": "x"}),
        Seal([NEW]),
    )
    assert json.loads(base64.b64decode(clean["body"]))[2] == {}
    assert not {"eta", "timelimit"} & set(clean["headers"])


@pytest.mark.parametrize(("sent_with", "accepted", "fits"), [
    (OLD, [OLD, NEW], True),
    (NEW, [OLD, NEW], True),
    (OLD, [NEW, OLD], True),
    (OLD, [NEW], False),
], ids=["old key first", "new key too", "new key first", "old key gone"])  # fmt: skip
def test_keys_can_be_changed_one_after_the_other(sent_with: str, accepted: list[str], fits: bool) -> None:
    settings = Settings(message_keys=SecretStr(", ".join(accepted)))
    assert Seal.of(settings).accepts(JOB, Seal([sent_with]).sign(JOB)) is fits


def test_the_first_key_signs() -> None:
    assert Seal([NEW, OLD]).sign(JOB) == Seal([NEW]).sign(JOB) != Seal([OLD]).sign(JOB)


@pytest.mark.parametrize("refused", [
    "text", 7, None, [], {}, [message(signed())],
    message([[JOB], {}, {}]),
    message([[JOB, ""], {}, {}]),
    message([[JOB, "0" * 64], {}, {}]),
    message([[JOB, "\u00e4\ud800"], {}, {}]),
    message(signed(key=OLD)),
    message([["job_another", Seal([NEW]).sign(JOB)], {}, {}]),
    message([["../up", Seal([NEW]).sign("../up")], {}, {}]),
    message([[*signed()[0], "more"], {}, {}]),
    message([]), message({}), message("x"), message(None),
    message(signed(), body="no base64!"),
    message(signed(), body=base64.b64encode(b"no JSON").decode()),
    message(signed(), body=base64.b64encode(b"[" * 100_000).decode()),
    message(signed(), body=None), message(signed(), body=[1]),
    message(signed(), headers=None), message(signed(), headers={"task": "celery.chord_unlock"}),
    message(signed(), properties=None), message(signed(), properties={"delivery_tag": 7}),
    message(signed(), **{"content-type": "application/x-python-serialize"}),
    message(signed(), **{"content-type": ["application/json"]}),
])  # fmt: skip
def test_anything_else_is_refused(refused: Any) -> None:
    with pytest.raises(MessageRefused):
        opened(refused, Seal([NEW]))


def test_without_a_key_nothing_is_signed_or_accepted() -> None:
    seal = Seal.of(Settings(message_keys=None))
    with pytest.raises(NoMessageKey, match="FEATHERWEIGHT_MESSAGE_KEYS"):
        seal.sign(JOB)
    with pytest.raises(MessageRefused):
        opened(message(signed()), seal)


def test_a_short_key_is_refused_without_being_told() -> None:
    with pytest.raises(ValueError, match="fewer than 32") as refused:
        Seal.of(Settings(message_keys=SecretStr("hunter2")))
    assert "hunter2" not in str(refused.value)


def test_a_signature_is_for_one_task_alone() -> None:
    other = message(signed(), headers={"task": DELIVER, "id": "x"})
    assert sealed(other).task == DELIVER
    with pytest.raises(MessageRefused):
        opened(other, Seal([NEW]))
    fitting = message([[JOB, Seal([NEW]).sign(JOB, DELIVER)], {}, {}], headers={"task": DELIVER, "id": "x"})
    assert opened(fitting, Seal([NEW]))["headers"]["task"] == DELIVER
