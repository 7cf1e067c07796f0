"""``make serve``: the whole stack on localhost until Ctrl-C, its data kept in ``.local/``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from deploy.local.demo import SPEC
from deploy.local.digits import DATA, MODEL
from deploy.local.main import run_main, say
from deploy.local.processes import StartError, keep_port
from deploy.local.stack import ROOT, LocalStack

__all__ = ["main", "welcome"]


def main() -> None:
    options = _parser().parse_args()
    if options.port:
        try:
            keep_port(options.port)
        except StartError as error:
            raise StartError(f"{error}; choose another with PORT=...") from None
    directory = options.directory.resolve()
    say("Starting Redis, an S3 server, the API and a worker ...")
    stack = LocalStack(
        directory, port=options.port, workers=options.workers, redis_url=os.environ.get("REDIS_URL")
    )
    with stack:
        with suppress(KeyboardInterrupt):  # Ctrl-C is how this ends when all is well
            say(welcome(stack, _samples(directory / "samples")))
            _watch(stack)
        say("\nStopping ...")
    say("Everything has ended; the data stays in " + str(_short(directory)))


def welcome(stack: LocalStack, samples: Path) -> str:
    """What to do with it. Each command works when pasted into a shell in the repository."""
    authorized = f'-H "Authorization: Bearer {stack.api_key}"'
    model, data = _short(samples / MODEL), _short(samples / DATA)
    command = _short(Path(sys.executable).with_name("featherweight"))
    return f"""
Featherweight is up.

  URL      {stack.url}
  API key  {stack.api_key}   (project "local")
  Logs     {_short(stack.directory / "logs")}

Try it: send a model with curl

  curl -sS {authorized} -X POST -T {model} "{stack.url}/v1/models?filename={MODEL}"

or make it small with the command line

  export FEATHERWEIGHT_URL={stack.url} FEATHERWEIGHT_API_KEY={stack.api_key}
  {command} compress {model} --data {data} --spec {_short(samples / "spec.json")} --wait

Ctrl-C ends everything."""


def _samples(directory: Path) -> Path:
    """A small trained model, its data and a spec to play with; made the first time (ten seconds)."""
    directory.mkdir(exist_ok=True)
    (directory / "spec.json").write_text(json.dumps(SPEC, indent=2) + "\n")
    if not (directory / MODEL).exists():
        say("Training a small model to try things on (only this time) ...")
        made = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "deploy.local.digits", directory], cwd=ROOT, capture_output=True, text=True
        )
        if made.returncode != 0:
            raise StartError(f"the training failed\n{made.stderr[-2000:]}")
    return directory


def _watch(stack: LocalStack) -> None:
    """Until Ctrl-C, or StartError when a part ends by itself."""
    while True:
        for process in stack.processes():
            process.check()
        time.sleep(1)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 for a free one")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=ROOT / ".local")
    return parser


if __name__ == "__main__":
    run_main(main)
