"""Jobs made of others, and the pause of a project."""

from __future__ import annotations

from typing import Any

from featherweight.cli.commands import Context, limits_of, spec_of, submitted
from featherweight.cli.exit_codes import OK
from featherweight.handle import JobHandle
from featherweight.resources import Project

__all__ = ["clone_job", "pause_project", "resume_project", "retry_job", "show_project"]


def retry_job(context: Context) -> int:
    args, jobs = context.args, context.client.jobs
    job = jobs.retry(args.job, idempotency_key=args.idempotency_key)
    return submitted(context, JobHandle(jobs, job))


def clone_job(context: Context) -> int:
    args, jobs = context.args, context.client.jobs
    changes: dict[str, Any] = {
        "model_id": args.model,
        "dataset_id": args.data,
        "spec": None if args.spec is None else spec_of(args.spec),
        "name": args.name,
        "metadata": dict(args.metadata) or None,
        "limits": limits_of(args),
    }
    given = {name: value for name, value in changes.items() if value is not None}
    job = jobs.clone(args.job, **given, idempotency_key=args.idempotency_key)
    return submitted(context, JobHandle(jobs, job))


def show_project(context: Context) -> int:
    return _shown(context, context.client.project())


def pause_project(context: Context) -> int:
    return _shown(context, context.client.pause_project())


def resume_project(context: Context) -> int:
    return _shown(context, context.client.resume_project())


def _shown(context: Context, project: Project) -> int:
    since = f" since {project.paused_at:%Y-%m-%d %H:%M:%S}" if project.paused_at else ""
    context.output.result(project, f"{project.name}  {f'paused{since}' if project.paused else 'not paused'}")
    return OK
