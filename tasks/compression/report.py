"""Puts what a job found into the contract's report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featherweight._version import version
from featherweight.report import (
    FileDigest,
    Inference,
    LayerReport,
    MissingOutput,
    Report,
    ReportWarning,
    StepReport,
    Variant,
    Verdict,
)
from featherweight.spec import CompressionSpec
from tasks.compression.data import Data
from tasks.compression.facts import LayerFacts, StoredLayer
from tasks.compression.host import host
from tasks.compression.sizes import sha256
from tasks.compression.verify import Original
from tasks.compression.workspace import LayerNote, StepRecord

__all__ = ["Findings", "build_report"]


@dataclass(frozen=True)
class Findings:
    """`spec` is the resolved one, `model` and `dataset` a file and its sha256; `before` and `after` are the
    layers at the start and after the last step, `stored` those in the file delivered, by name; `macs` are of
    the network after the last step, by layer; `companions` are delivered beside the outputs, `missing`
    could not be made."""

    job_id: str | None
    spec: CompressionSpec
    model: tuple[Path, str]
    dataset: tuple[Path, str] | None
    data: Data | None
    steps: Sequence[StepReport]
    records: Sequence[StepRecord]
    before: Sequence[LayerFacts]
    after: Sequence[LayerFacts]
    stored: Mapping[str, StoredLayer]
    macs: Mapping[str, int] | None
    original: Original
    baseline: Variant | None
    outputs: Sequence[Variant]
    missing: Sequence[MissingOutput]
    companions: Sequence[Path]
    verdict: Verdict
    warnings: Sequence[ReportWarning]
    versions: Mapping[str, str]
    seconds: float


def build_report(found: Findings) -> Report:
    return Report(
        job_id=found.job_id,
        created_at=datetime.now(UTC),
        verdict=found.verdict,
        spec=found.spec.model_dump(mode="json"),
        seed=found.spec.seed,
        inputs=_inputs(found),
        files=_files(found),
        inferred=_inferred(found),
        data=None if found.data is None else found.data.counts(),
        steps=list(found.steps),
        layers=_layers(found),
        original=found.original.variant,
        baseline=found.baseline,
        outputs=list(found.outputs),
        missing=list(found.missing),
        warnings=list(found.warnings),
        versions={"featherweight": version(), **found.versions},
        host=host(),
        seconds=round(found.seconds, 4),
    )


def _files(found: Findings) -> list[FileDigest]:
    files = [
        FileDigest(role="output", name=item.name, bytes=item.bytes, sha256=item.sha256)
        for item in found.outputs
    ]
    return files + [
        FileDigest(role="output", name=path.name, bytes=path.stat().st_size, sha256=sha256(path))
        for path in found.companions
    ]


def _inputs(found: Findings) -> list[FileDigest]:
    path, digest = found.model
    files = [FileDigest(role="model", name=path.name, bytes=path.stat().st_size, sha256=digest)]
    if found.dataset is not None:
        path, digest = found.dataset
        files.append(FileDigest(role="dataset", name=path.name, bytes=path.stat().st_size, sha256=digest))
    return files


def _inferred(found: Findings) -> list[Inference]:
    return [] if found.data is None else list(found.data.objective.inferred)


def _layers(found: Findings) -> list[LayerReport]:
    notes: dict[str, LayerNote] = {}
    for record in found.records:
        notes |= record.layers
    origins = _origins(found.records)
    earlier = {layer.name: layer for layer in found.before}
    layers = []
    for layer in found.after:
        note = notes.get(layer.name, LayerNote())
        itself = earlier.get(layer.name)
        source = earlier.get(origins.get(layer.name, layer.name))
        layers.append(
            LayerReport(
                name=layer.name,
                kind=layer.kind,
                parameters=layer.parameters,
                parameters_before=None if itself is None else itself.parameters,
                sparsity_before=0.0 if source is None else source.sparsity,
                sparsity_after=layer.sparsity,
                target_sparsity=note.target_sparsity,
                distinct_values_before=None if itself is None else itself.distinct_values,
                distinct_values_after=layer.distinct_values,
                shape=list(layer.shape),
                macs=None if found.macs is None else found.macs.get(layer.name, 0),
                **_stored(found.stored.get(layer.name)),
                skipped=note.skipped,
                made_from=origins.get(layer.name),
            )
        )
    return layers


def _stored(layer: StoredLayer | None) -> dict[str, Any]:
    if layer is None or layer.dtype == "unknown":
        return {}
    widths = [int(digits) for digits in re.findall(r"\d+", layer.dtype)]
    return {"stored_as": layer.dtype, "bits": max(widths, default=None), "snr_db": layer.snr_db}


def _origins(records: Sequence[StepRecord]) -> dict[str, str]:
    """The layer of the original that each layer which a step made goes back to."""
    origins: dict[str, str] = {}
    for record in records:
        known = dict(origins)
        for name, note in record.layers.items():
            if note.made_from is not None:
                origins[name] = known.get(note.made_from, note.made_from)
    return origins
