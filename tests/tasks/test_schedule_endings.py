"""The end of a job ends its run; a run that is worse than the last good one is marked, with the numbers."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from featherweight.problem import problem
from featherweight.report import Measurement, MissingOutput
from featherweight.schedule import RegressionLimits
from tasks import keys
from tasks.queue import Queue
from tasks.schedules.records import OutputMeasures, RunRecord
from tasks.schedules.regression import compare
from tasks.settings import Settings
from tasks.storage import Storage
from tests.clients.sample_report import REPORT
from tests.tasks.schedules import PROJECT, Almanac
from tests.tasks.test_schedules import shift

LIMITS = {"accuracy_drop": 2.0, "size_growth": 10.0}


@pytest.fixture
def almanac(settings: Settings, redis_client: redis.Redis, storage: Storage, queue: Queue) -> Almanac:
    return Almanac(settings, redis_client, storage, queue)


def accuracy(value: float, n: int = 1000, **changes: Any) -> Measurement:
    """A share with its Wilson interval."""
    z = 1.959964
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (value * (1 - value) / n + z * z / (4 * n * n)) ** 0.5
    fields = {"metric": "accuracy", "value": value, "low": centre - half, "high": centre + half, "n": n}
    return Measurement.model_validate({**fields, "method": "wilson", **changes})


def output(size: int = 1000, measured: Measurement | None = None) -> OutputMeasures:
    return OutputMeasures(name="model.tflite", gzip_bytes=size, accuracy=measured)


def reasons(before: OutputMeasures, after: OutputMeasures, **limits: float) -> dict[str, Any]:
    given = RegressionLimits.model_validate(limits or LIMITS)
    found = compare([before], [after], given, against="sch_x:y")
    assert found.regressed == bool(found.reasons)
    return {reason.code: reason for reason in found.reasons}


class TestComparison:
    def test_nothing_worse_is_no_regression(self) -> None:
        assert reasons(output(1000, accuracy(0.97)), output(1000, accuracy(0.97))) == {}
        assert reasons(output(1000, accuracy(0.97)), output(900, accuracy(0.99))) == {}

    def test_growth_beyond_the_limit_is_told_with_its_numbers(self) -> None:
        assert reasons(output(1000), output(1100)) == {}
        found = reasons(output(1000), output(1101))["size_growth"]
        assert (found.before, found.after, found.limit) == (1000, 1101, 10)
        assert found.change == pytest.approx(10.1)
        assert found.output == "model.tflite"

    def test_an_output_that_could_not_be_made_is_told_if_there_was_one(self) -> None:
        missing = [
            MissingOutput(output=name, code="conversion_failed", detail="no operation for it")
            for name in ("tflite", "onnx")
        ]
        found = compare([output()], [], RegressionLimits(), against="sch_x:y", missing=missing)
        (reason,) = found.reasons
        assert (reason.code, reason.output) == ("output_missing", "model.tflite")
        assert "no operation for it" in reason.detail

    def test_a_drop_beyond_the_limit_is_told_with_its_interval(self) -> None:
        found = reasons(output(measured=accuracy(0.97)), output(measured=accuracy(0.90)))["accuracy_drop"]
        assert (found.before, found.after, found.metric) == (0.97, 0.90, "accuracy")
        assert found.change == pytest.approx(7.0)
        assert found.low is not None
        assert found.high is not None
        assert 0 < found.low < found.change < found.high

    def test_the_interval_is_newcombes(self) -> None:
        # His example (a), 56/70 and 48/80, by method 10: 0.0524 to 0.3339.
        found = reasons(output(measured=accuracy(0.8, 70)), output(measured=accuracy(0.6, 80)))
        drop = found["accuracy_drop"]
        assert (drop.low, drop.high) == (pytest.approx(5.24, abs=0.005), pytest.approx(33.39, abs=0.005))

    def test_a_drop_within_the_limit_is_none(self) -> None:
        assert reasons(output(measured=accuracy(0.97)), output(measured=accuracy(0.955))) == {}

    def test_a_drop_that_may_be_chance_is_none(self) -> None:
        few = (output(measured=accuracy(0.97, 100)), output(measured=accuracy(0.93, 100)))
        assert reasons(*few) == {}
        many = (output(measured=accuracy(0.97, 5000)), output(measured=accuracy(0.93, 5000)))
        assert set(reasons(*many)) == {"accuracy_drop"}

    def test_of_an_error_more_is_worse_by_its_share(self) -> None:
        def error(value: float) -> Measurement:
            changes = {"metric": "mse", "value": value, "low": value * 0.99, "high": value * 1.01}
            method = {"method": "bootstrap", "higher_is_better": False}
            return accuracy(0.5).model_copy(update={**changes, **method})

        assert reasons(output(measured=error(4.0)), output(measured=error(3.0))) == {}
        found = reasons(output(measured=error(4.0)), output(measured=error(4.4)))["accuracy_drop"]
        assert found.change == pytest.approx(10.0)

    def test_other_metrics_and_other_files_are_not_compared(self) -> None:
        before = output(measured=accuracy(0.97))
        assert reasons(before, output(measured=accuracy(0.5, metric="agreement"))) == {}
        assert reasons(before, before.model_copy(update={"name": "model.onnx", "gzip_bytes": 9999})) == {}

    def test_limits_that_are_not_given_are_not_looked_at(self) -> None:
        worse = output(5000, accuracy(0.5))
        assert set(reasons(output(1000, accuracy(0.9)), worse, size_growth=1.0)) == {"size_growth"}
        assert set(reasons(output(1000, accuracy(0.9)), worse, accuracy_drop=1.0)) == {"accuracy_drop"}


class Series:
    """Runs of one schedule, one after the other, each with its report."""

    def __init__(self, almanac: Almanac, **wanted: Any) -> None:
        self.almanac = almanac
        self.record = almanac.schedule(regression=LIMITS, **wanted)

    def run(self) -> RunRecord:
        """The next one, submitted."""
        shift(self.almanac, self.record, 61)
        return self.almanac.look(self.record)[-1]

    def ended(self, size: int = 1000, value: float = 0.97, **changes: Any) -> RunRecord:
        """The next one, ended with a report that says this; as the record has it then."""
        run = self.run()
        put_report(self.almanac.storage, run, size, value)
        self.almanac.end(run, **{"verdict": "smaller", **changes})
        return self.almanac.runs(self.record)[-1]


def put_report(storage: Storage, run: RunRecord, size: int, value: float) -> None:
    measured = accuracy(value).model_dump(mode="json")
    (first, *_) = REPORT["outputs"]
    report = {
        **REPORT,
        "outputs": [{**first, "name": "model.tflite", "gzip_bytes": size, "accuracy": measured}],
    }
    storage.put_json(keys.report_key(PROJECT, run.job_id or "", 1), report)


class TestEnd:
    def test_the_first_good_run_is_what_later_ones_are_compared_with(self, almanac: Almanac) -> None:
        series = Series(almanac)
        first = series.ended()
        assert (first.state, first.good, first.verdict, first.regression) == (
            "succeeded",
            True,
            "smaller",
            None,
        )
        assert almanac.reloaded(series.record).public().last_good_run == first.id
        second = series.ended(size=1050)
        assert second.regression is not None
        assert (second.regression.regressed, second.regression.against) == (False, first.id)
        assert almanac.reloaded(series.record).public().last_good_run == second.id
        assert almanac.told.events == {}

    def test_a_regressed_run_is_marked_told_and_not_compared_with(self, almanac: Almanac) -> None:
        series = Series(almanac)
        good = series.ended()
        bad = series.ended(size=2000, value=0.80)
        assert bad.regression is not None
        assert {reason.code for reason in bad.regression.reasons} == {"size_growth", "accuracy_drop"}
        assert (bad.good, bad.state) == (False, "succeeded")
        told = almanac.told.events["schedule.regressed", bad.id]
        assert told["regression"]["against"] == good.id
        assert told["job_id"] == bad.job_id
        again = series.ended(size=2000, value=0.97)
        assert again.regression is not None
        assert again.regression.against == good.id
        assert [reason.code for reason in again.regression.reasons] == ["size_growth"]
        assert almanac.reloaded(series.record).public().last_good_run == good.id

    @pytest.mark.parametrize("state", ["failed", "expired"])
    def test_a_failed_job_after_a_good_one_is_a_regression(self, almanac: Almanac, state: str) -> None:
        series = Series(almanac)
        alone = series.run()
        error = problem("bad_model", "the file is damaged")
        almanac.end(alone, state, error=error)
        assert almanac.told.types == ["schedule.run_failed"]
        good = series.ended()
        run = series.run()
        almanac.end(run, state, error=error)
        after = almanac.runs(series.record)[-1]
        assert (after.state, after.error) == (state, error)
        assert after.regression is not None
        assert after.regression.against == good.id
        assert [reason.code for reason in after.regression.reasons] == ["job_failed"]
        assert ("schedule.run_failed", run.id) in almanac.told.events
        assert ("schedule.regressed", run.id) in almanac.told.events

    def test_a_cancelled_job_is_neither(self, almanac: Almanac) -> None:
        series = Series(almanac)
        series.ended()
        run = series.run()
        almanac.end(run, "cancelled")
        after = almanac.runs(series.record)[-1]
        assert (after.state, after.regression) == ("cancelled", None)
        assert almanac.told.events == {}

    @pytest.mark.parametrize("verdict", ["not_smaller", "smaller_but_worse"])
    def test_a_run_with_a_bad_verdict_is_nothing_to_compare_with(
        self, almanac: Almanac, verdict: str
    ) -> None:
        series = Series(almanac)
        assert series.ended(verdict=verdict).good is False
        assert series.ended(size=5000).regression is None

    def test_without_limits_nothing_is_compared(self, almanac: Almanac) -> None:
        series = Series.__new__(Series)
        series.almanac, series.record = almanac, almanac.schedule(regression=None)
        series.ended()
        assert series.ended(size=9000, value=0.5).regression is None
        assert almanac.told.events == {}

    def test_told_again_it_comes_to_the_same(self, almanac: Almanac) -> None:
        series = Series(almanac)
        series.ended()
        bad = series.ended(size=2000)
        good = series.ended(size=1000)
        told = dict(almanac.told.events)
        for _ in range(2):
            almanac.end(bad, verdict="smaller")
        runs = {run.id: run for run in almanac.runs(series.record)}
        assert runs[bad.id] == bad
        assert almanac.reloaded(series.record).public().last_good_run == good.id
        assert almanac.told.events == told

    def test_an_older_run_that_ends_later_does_not_take_its_place(self, almanac: Almanac) -> None:
        series = Series(almanac)
        slow, quick = series.run(), series.run()
        for run in (quick, slow):
            put_report(almanac.storage, run, 1000, 0.97)
            almanac.end(run, verdict="smaller")
        assert almanac.reloaded(series.record).public().last_good_run == quick.id

    def test_one_whose_end_could_not_be_told_is_told_the_next_time(self, almanac: Almanac) -> None:
        series = Series(almanac)
        series.ended()
        run = series.run()
        put_report(almanac.storage, run, 5000, 0.97)
        tell = almanac.told.tell

        def fail(*_: Any) -> None:
            raise redis.ConnectionError

        almanac.told.tell = fail  # type: ignore[method-assign]
        with pytest.raises(redis.ConnectionError):
            almanac.end(run, verdict="smaller")
        almanac.told.tell = tell  # type: ignore[method-assign]
        almanac.end(run, verdict="smaller")
        assert almanac.told.types == ["schedule.regressed"]

    def test_jobs_of_others_and_of_deleted_schedules_are_none_of_its_business(self, almanac: Almanac) -> None:
        series = Series(almanac)
        run = series.run()
        job = almanac.job(run)
        assert job is not None
        almanac.parts.store.delete(PROJECT, series.record.id)
        almanac.parts.endings.job_ended(job)
        almanac.parts.endings.job_ended(job.model_copy(update={"origin": None}))
        assert almanac.told.events == {}
