"""What is said of what pip-audit says. Its answers here are of the form that version 2.10 gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.audit import ACCEPTED, ask, findings, released, verdict

KNOWN = {
    "id": "PYSEC-2019-217",
    "aliases": ["CVE-2019-10906"],
    "fix_versions": ["2.10.1"],
    "description": "sandbox escape",
}
UNKNOWN = {"name": "amqp", "skip_reason": "Dependency not found on PyPI and could not be audited: amqp (5)"}
CLEAN = {"name": "flask", "version": "3.1.3", "vulns": []}
BAD = {"name": "jinja2", "version": "2.10", "vulns": [KNOWN]}


def said(*packages: dict[str, Any], accepted: dict[str, str] | None = None) -> tuple[str, int]:
    return verdict(findings({"dependencies": list(packages), "fixes": []}, accepted or {}))


def test_a_known_vulnerability_fails_and_is_named() -> None:
    text, code = said(CLEAN, BAD)
    assert code == 1
    assert "jinja2 2.10: PYSEC-2019-217 CVE-2019-10906 (fixed in: 2.10.1)" in text


def test_clean_packages_are_counted() -> None:
    assert said(CLEAN) == ("AUDITED: no vulnerability is known of 1 packages.", 0)


def test_packages_nobody_could_be_asked_about_are_not_called_clean() -> None:
    text, code = said(UNKNOWN, UNKNOWN)
    assert code == 0
    assert text.startswith("NOT AUDITED")
    assert "no vulnerability" not in text


def test_packages_the_database_does_not_know_are_named() -> None:
    text, _ = said(CLEAN, UNKNOWN)
    assert "NOT AUDITED, because the database does not know them: 1 (amqp)" in text


def test_an_advisory_is_accepted_by_any_of_its_names() -> None:
    assert said(BAD, accepted={"CVE-2019-10906": "no template of ours is anybody else's"})[1] == 0
    assert said(BAD, accepted={"CVE-2000-0001": "another"})[1] == 1


def test_every_advisory_accepted_has_its_reason() -> None:
    assert all(len(reason) > 20 for reason in ACCEPTED.values())


def test_no_answer_is_not_audited(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lock").write_text("flask>=3\n")
    found = ask(tmp_path / "lock")
    assert found is None
    assert verdict(found)[0].startswith("NOT AUDITED")
    assert "flask" in capfd.readouterr().err


def test_a_build_is_asked_about_as_the_release_it_is_of() -> None:
    lock = "torch==2.13.0+cpu \\\n    --hash=sha256:aa\nflask==3.1.3 \\\n    --hash=sha256:bb\n"
    assert released(lock) == lock.replace("+cpu", "")
