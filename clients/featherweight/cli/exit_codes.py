"""What the command's exit code says, by the class of the error.

0    done
1    the job failed or expired, or no item of the batch succeeded
2    wrong usage: arguments, a local file that cannot be read, no URL
3    the spec or the request is not valid, or a plan or an inspection says that no job would do
4    the API key is missing, unknown, or may not do this
5    there is no such thing (any more)
6    the thing is not in a state that allows this
7    the service or its storage cannot be reached or failed
8    the time given to --timeout is over; the job or batch goes on
9    the job or batch was cancelled
10   the bytes received are not those announced
11   a file is not the one that its receipt was signed for
12   the evaluation, run again, does not give the numbers of the report
13   the evaluation could not be run again: no engine here, or it refused the files
14   some items of the batch did not succeed
130  interrupted (Ctrl-C)
"""

from __future__ import annotations

from featherweight import errors

__all__ = [
    "CANCELLED",
    "DIFFERS",
    "FAILED",
    "INTERRUPTED",
    "NOT_VALID",
    "OK",
    "PARTIAL",
    "TABLE",
    "UNAVAILABLE",
    "exit_code",
]

OK = 0
FAILED = 1
NOT_VALID = 3
UNAVAILABLE = 7
CANCELLED = 9
DIFFERS = 12
PARTIAL = 14
INTERRUPTED = 130

# The first row whose class fits counts, so a class stands before those it derives from.
TABLE: list[tuple[type[Exception], int]] = [
    (errors.JobCancelled, CANCELLED),
    (errors.JobError, FAILED),
    (errors.WaitTimeout, 8),
    (errors.BatchWaitTimeout, 8),
    (errors.BatchFailed, FAILED),
    (errors.InvalidSpec, 3),
    (errors.ConfigurationError, 2),
    (errors.AuthenticationError, 4),
    (errors.PermissionDenied, 4),
    (errors.NotFound, 5),
    (errors.Gone, 5),
    (errors.Conflict, 6),
    (errors.BadRequest, 3),
    (errors.InvalidRequest, 3),
    (errors.PayloadTooLarge, 3),
    (errors.UnsupportedMediaType, 3),
    (errors.ChecksumMismatch, 10),
    (errors.VerificationFailed, 11),
    (errors.RerunFailed, 13),
    (errors.FeatherweightError, UNAVAILABLE),
    (OSError, 2),
    (ValueError, 2),
]


def exit_code(error: Exception) -> int:
    """The code for an error of this library, or of reading a local file."""
    return next(code for kind, code in TABLE if isinstance(error, kind))
