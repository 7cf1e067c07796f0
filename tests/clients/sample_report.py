"""A report as the service sends it."""

from __future__ import annotations

from typing import Any

__all__ = ["REPORT"]


def _accuracy(value: float) -> dict[str, Any]:
    low, high = value - 0.01, value + 0.01
    return {"metric": "accuracy", "value": value, "low": low, "high": high, "n": 1000, "method": "wilson"}


def _latency(p50: float) -> dict[str, Any]:
    return {"p50_ms": p50, "p95_ms": 2 * p50, "runs": 100, "threads": 1, "runtime": "litert"}


REPORT: dict[str, Any] = {
    "version": 1,
    "job_id": "job_0",
    "created_at": "2026-01-02T03:04:05Z",
    "verdict": "smaller",
    "spec": {},
    "seed": 7,
    "inputs": [{"role": "model", "name": "model.keras", "bytes": 100_000, "sha256": "a"}],
    "files": [{"role": "output", "name": "model.tflite", "bytes": 12_000, "sha256": "b"}],
    "inferred": [{"field": "loss", "value": "mean_squared_error", "source": "compiled_model"}],
    "data": {
        "samples": 5000,
        "train": 3600,
        "validation": 400,
        "calibration": 200,
        "test": 1000,
        "test_source": "split",
    },
    "steps": [],
    "layers": [
        {
            "name": "conv2d",
            "kind": "Conv2D",
            "parameters": 300,
            "sparsity_before": 0.0,
            "sparsity_after": 0.8,
            "target_sparsity": 0.8,
            "shape": [3, 3, 1, 32],
            "macs": 20_000,
            "stored_as": "int8",
            "bits": 8,
            "snr_db": 31.4,
        },
        {
            "name": "norm",
            "kind": "BatchNormalization",
            "parameters": 8,
            "sparsity_before": 0.0,
            "sparsity_after": 0.0,
            "skipped": "nothing to prune",
        },
    ],
    "original": {
        "name": "model.keras",
        "format": "keras",
        "bytes": 100_000,
        "gzip_bytes": 90_000,
        "sha256": "a",
        "accuracy": _accuracy(0.975),
    },
    "baseline": {
        "name": "baseline.tflite",
        "format": "tflite",
        "bytes": 84_848,
        "gzip_bytes": 78_000,
        "sha256": "c",
        "latency": _latency(0.2),
    },
    "outputs": [
        {
            "name": "model.tflite",
            "format": "tflite",
            "scheme": "full_int8",
            "bytes": 12_000,
            "gzip_bytes": 7_000,
            "zstd_bytes": 6_900,
            "nonzero_parameters": 1_000,
            "distinct_weights": 200,
            "macs": 30_560,
            "arena_bytes": 25_732,
            "difference": {
                "metric": "accuracy",
                "value": -0.004,
                "low": -0.009,
                "high": 0.001,
                "n": 1000,
                "method": "paired_bootstrap",
            },
            "flipped": 0.012,
            "calibration_error": 0.031,
            "by_class": [
                {"label": 8, "n": 90, "before": 0.978, "after": 0.933, "change": -0.045},
                {"label": 3, "n": 95, "before": 0.97, "after": 0.97, "change": 0.0},
            ],
            "operators": [
                {"name": "CONV_2D", "count": 2, "in_float": 1, "hybrid": 0},
                {"name": "FULLY_CONNECTED", "count": 1, "in_float": 0, "hybrid": 1},
            ],
            "sha256": "b",
            "accuracy": _accuracy(0.971),
            "latency": _latency(0.1),
            "compression_ratio": 12.857,
        }
    ],
    "warnings": [{"code": "few_samples", "message": "Only a few samples", "layer": "conv2d"}],
    "versions": {"tensorflow": "2.21.0"},
    "host": {"cpu": "cpu", "cores": 2, "memory_bytes": 1, "platform": "linux"},
    "seconds": 12.5,
}
