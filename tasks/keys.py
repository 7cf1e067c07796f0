"""Keys in object storage, all of them made here.

receipt-keys/<key id>.json    a public key that receipts are checked with
projects/<project>/
├── models/<id>/<id>.bin      the bytes, as they were uploaded
│              model.json     the record beside it
├── datasets/<id>/<id>.bin    dataset.json
└── jobs/<id>/
    ├── job.json              the request, at submission
    ├── result.json           how the job ended, once it has been committed
    ├── a<attempt>/           what an attempt made; only the committed attempt's is kept
    │   ├── <artifact name>   report.json among them
    │   └── log.txt
    └── progress/a<attempt>/  how far an attempt has got, for the next; gone once the job has ended
        ├── index.json        names the files that belong together, written after them
        └── <number>          one of them; a number is never used for another
"""

from __future__ import annotations

from tasks.identifiers import check_name

__all__ = [
    "PROJECTS",
    "RECEIPT_KEYS",
    "artifact_key",
    "attempt_prefix",
    "dataset_key",
    "dataset_record_key",
    "job_key",
    "job_prefix",
    "log_key",
    "model_key",
    "model_record_key",
    "progress_file_key",
    "progress_index_key",
    "progress_prefix",
    "project_prefix",
    "receipt_key_key",
    "report_key",
    "result_key",
]


RECEIPT_KEYS = "receipt-keys/"
PROJECTS = "projects/"


def receipt_key_key(key_id: str) -> str:
    return f"{RECEIPT_KEYS}{check_name(key_id)}.json"


def model_key(project: str, model_id: str) -> str:
    return f"{_prefix(project, 'models', model_id)}{model_id}.bin"


def model_record_key(project: str, model_id: str) -> str:
    return f"{_prefix(project, 'models', model_id)}model.json"


def dataset_key(project: str, dataset_id: str) -> str:
    return f"{_prefix(project, 'datasets', dataset_id)}{dataset_id}.bin"


def dataset_record_key(project: str, dataset_id: str) -> str:
    return f"{_prefix(project, 'datasets', dataset_id)}dataset.json"


def job_prefix(project: str, job_id: str) -> str:
    return _prefix(project, "jobs", job_id)


def job_key(project: str, job_id: str) -> str:
    return f"{job_prefix(project, job_id)}job.json"


def result_key(project: str, job_id: str) -> str:
    return f"{job_prefix(project, job_id)}result.json"


def attempt_prefix(project: str, job_id: str, attempt: int) -> str:
    return f"{job_prefix(project, job_id)}a{attempt}/"


def artifact_key(project: str, job_id: str, attempt: int, name: str) -> str:
    return f"{attempt_prefix(project, job_id, attempt)}{check_name(name)}"


def progress_prefix(project: str, job_id: str, attempt: int | None = None) -> str:
    """Of all attempts, or of one: an attempt writes beneath its own alone."""
    own = "" if attempt is None else f"a{attempt}/"
    return f"{job_prefix(project, job_id)}progress/{own}"


def progress_index_key(project: str, job_id: str, attempt: int) -> str:
    return f"{progress_prefix(project, job_id, attempt)}index.json"


def progress_file_key(project: str, job_id: str, attempt: int, number: int) -> str:
    return f"{progress_prefix(project, job_id, attempt)}{number}"


def report_key(project: str, job_id: str, attempt: int) -> str:
    return artifact_key(project, job_id, attempt, "report.json")


def log_key(project: str, job_id: str, attempt: int) -> str:
    return artifact_key(project, job_id, attempt, "log.txt")


def project_prefix(project: str) -> str:
    return f"{PROJECTS}{check_name(project)}/"


def _prefix(project: str, kind: str, resource_id: str) -> str:
    return f"{project_prefix(project)}{kind}/{check_name(resource_id)}/"
