"""What the local stack is told and tells; that it runs is shown by the tests that use it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from deploy.local.processes import StartError
from deploy.local.stack import LocalStack
from tasks.settings import Settings


def test_its_processes_get_every_setting_and_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a developer's own")
    stack = LocalStack(tmp_path, lease_s=7)
    environment = stack.environment()
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    for name in list(os.environ):
        if name.startswith("FEATHERWEIGHT_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings() == stack.settings
    assert Settings().lease_s == 7


def test_it_has_the_same_keys_and_ports_again(tmp_path: Path) -> None:
    first, second = LocalStack(tmp_path), LocalStack(tmp_path)
    assert first.settings == second.settings
    assert stat.S_IMODE((tmp_path / "identity.json").stat().st_mode) == 0o600


def test_a_folder_of_an_earlier_version_gets_the_secrets_it_lacks(tmp_path: Path) -> None:
    settings = LocalStack(tmp_path).settings
    path = tmp_path / "identity.json"
    identity = json.loads(path.read_text())
    del identity["redis_passwords"], identity["message_key"]
    path.write_text(json.dumps({**identity, "redis_password": "of the only user there was"}))
    path.chmod(0o644)
    first, second = LocalStack(tmp_path).settings, LocalStack(tmp_path).settings
    assert first == second
    assert first.s3_access_key_id == settings.s3_access_key_id
    assert first.redis_url != settings.redis_url
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_redis_of_ones_own_is_used(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, redis_url="redis://elsewhere:6379/3")
    assert stack.redis_server is None
    assert stack.settings.redis_url == "redis://elsewhere:6379/3"


def test_two_do_not_share_a_directory(stack: LocalStack) -> None:
    with pytest.raises(StartError, match="already running"):
        LocalStack(stack.directory).start()
    assert all(process.exit_code is None for process in stack.processes())
