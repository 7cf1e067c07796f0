"""What every row of the catalogue promises, measured in the files it makes. A framework's tests are a short
subclass that says how its tiny models are made and read."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from featherweight.report import Report
from featherweight.spec import Quantize
from tasks.compression.catalogue import BACKENDS, ROWS, support
from tasks.compression.litert import Program
from tasks.compression.outputs import COMPANIONS, FILES
from tasks.compression.tflite import tensors
from tests.conformance.jobs import JobConformance

Array = npt.NDArray[Any]
CHANCE = 0.1
STORED = {
    "float16": {"float16"},
    "dynamic_int8": {"int8", "float32"},
    "full_int8": {"int8"},
    "int16x8": {"int8"},
    "weight_only": {"int8", "float32"},
    "dynamic": {"int8", "float32"},
}
"""The types of the constants of a quantised network, by scheme."""

COMPUTED = {
    "float16": {"float32"},
    "dynamic_int8": {"float32"},
    "full_int8": {"int8"},
    "int16x8": {"int16"},
    "weight_only": {"float32"},
    "dynamic": {"float32"},
}
"""Those of its inner tensors. Activations that are quantised while it runs are float between operations."""


def dtypes(content: bytes) -> Counter[str]:
    return Counter(tensor.dtype for tensor in tensors(content))


def offered(step: dict[str, Any]) -> bool:
    """Whether the contract has the combination; the tests of the contract say which it refuses."""
    try:
        Quantize.model_validate({"technique": "quantize", **step})
    except ValidationError:
        return False
    return True


class Conformance(JobConformance):
    """The module of a subclass has two fixtures: `model_file`, a trained digit classifier with layers named
    conv and logits, and `data_file`, its digits."""

    framework: str

    @abstractmethod
    def kernels(self, path: Path) -> Mapping[str, Array]:
        """The weights of conv and logits in a delivered file of the framework's own format."""

    def test_framework_has_every_technique_of_its_rows(self) -> None:
        assert self.framework in BACKENDS
        assert {row.technique for row in ROWS if row.framework == self.framework} == self.techniques

    techniques = frozenset(
        {
            "prune",
            "prune_channels",
            "decompose",
            "cluster",
            "quantize_aware",
            "finetune",
            "distill",
            "quantize",
        }
    )

    @pytest.mark.parametrize("sparsity", [0.3, 0.8, 0.95])
    @pytest.mark.parametrize("trained", [False, True], ids=["one_shot", "finetuned"])
    @pytest.mark.parametrize("kind", ["constant_sparsity", "polynomial_decay"])
    def test_prune_makes_exactly_the_zeros_asked_for(
        self, run: Callable[..., tuple[Report, Path]], sparsity: float, trained: bool, kind: str
    ) -> None:
        key = "target_sparsity" if kind == "constant_sparsity" else "final_sparsity"
        steps: list[dict[str, Any]] = [{"technique": "prune", "schedule": {"type": kind, key: sparsity}}]
        if trained:
            steps.append({"technique": "finetune", "epochs": 1, "batch_size": 64})
        report, out = run(*steps)
        for name, kernel in self.kernels(out / FILES[self.native]).items():
            kept = max(1, int(np.round(np.float32(kernel.size) * (np.float32(1) - np.float32(sparsity)))))
            assert np.count_nonzero(kernel) == kept
            layer = next(layer for layer in report.layers if layer.name == name)
            assert layer.sparsity_after == pytest.approx(1 - kept / kernel.size)
            assert layer.target_sparsity == sparsity

    def test_prune_leaves_what_is_not_selected(self, run: Callable[..., tuple[Report, Path]]) -> None:
        _, out = run({"technique": "prune", "layers": {"include": ["conv"]}}, data=False)
        kernels = self.kernels(out / FILES[self.native])
        assert np.count_nonzero(kernels["logits"]) == kernels["logits"].size
        assert np.count_nonzero(kernels["conv"]) < kernels["conv"].size / 2

    def test_zeros_stay_zeros_in_the_quantised_file(self, run: Callable[..., tuple[Report, Path]]) -> None:
        report, _ = run({"technique": "prune"}, {"technique": "quantize", "scheme": "full_int8"})
        plain, _ = run({"technique": "quantize", "scheme": "full_int8"})
        assert report.outputs[0].gzip_bytes < 0.6 * plain.outputs[0].gzip_bytes

    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "nadam", "rmsprop", "sgd", "sgd_momentum"])
    def test_finetune_learns_with_every_optimiser(
        self, run: Callable[..., tuple[Report, Path]], optimizer: str
    ) -> None:
        rate = 1e-2 if optimizer.startswith("sgd") else 1e-3
        step = {"technique": "finetune", "epochs": 2, "batch_size": 64, "optimizer": optimizer}
        report, _ = run({"technique": "prune"}, {**step, "learning_rate": rate})
        accuracy = report.outputs[0].accuracy
        assert accuracy is not None
        assert accuracy.low > 4 * CHANCE
        assert len(report.steps[1].epochs) == 2

    @pytest.mark.parametrize("scheme", STORED)
    def test_quantize_stores_and_computes_in_the_types_promised(
        self, run: Callable[..., tuple[Report, Path]], scheme: str
    ) -> None:
        report, out = run({"technique": "quantize", "scheme": scheme}, outputs=["tflite"])
        before, after = report.baseline, report.outputs[0]
        found = tensors((out / "model.tflite").read_bytes())
        # In- and outputs alone have names in a stripped file, and are float under every scheme here.
        inner = {tensor.dtype for tensor in found if not tensor.stored and not tensor.name}
        assert {tensor.dtype for tensor in found if tensor.name} == {"float32"}
        # Shapes and biases are wide integers; other constants may be of the type that is computed in.
        wide = {"int32", "int64"}
        others = COMPUTED[scheme] - STORED[scheme]
        assert {tensor.dtype for tensor in found if tensor.stored} - wide - others == STORED[scheme]
        assert inner - wide == COMPUTED[scheme]
        assert before is not None
        assert after.scheme == scheme
        assert after.bytes < before.bytes * (0.7 if scheme == "float16" else 0.6)
        assert report.steps[0].details["layers"]["logits"] == ("float16" if scheme == "float16" else "int8")
        assert after.accuracy is not None
        assert report.original.accuracy is not None
        assert after.accuracy.value > report.original.accuracy.value - 0.03

    @pytest.mark.parametrize("scheme", ["weight_only", "dynamic"])
    @pytest.mark.parametrize("bits", [8, 4, 2])
    @pytest.mark.parametrize(
        ("granularity", "algorithm"),
        [
            ("per_tensor", "min_max"),
            *(("per_channel", name) for name in ("min_max", "mse", "octav", "gptq", "hadamard")),
        ],
    )
    def test_weights_have_the_bits_asked_for(
        self,
        run: Callable[..., tuple[Report, Path]],
        scheme: str,
        bits: int,
        granularity: str,
        algorithm: str,
    ) -> None:
        asked = {"scheme": scheme, "weight_bits": bits, "granularity": granularity, "algorithm": algorithm}
        if not offered(asked):
            pytest.skip("the contract refuses it")
        report, out = run({"technique": "quantize", "calibration_samples": 30, **asked}, outputs=["tflite"])
        types = report.steps[0].details["layers"]
        count = dtypes((out / "model.tflite").read_bytes())[f"int{bits}"]
        assert types["logits"] == f"int{bits}"
        assert count == sum(dtype == f"int{bits}" for dtype in types.values())
        said = {warning.layer for warning in report.warnings if warning.code == "left_float"}
        assert said == {layer for layer, dtype in types.items() if dtype == "float32"}
        accuracy = report.outputs[0].accuracy
        assert accuracy is not None
        assert accuracy.low > 4 * CHANCE

    @pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
    @pytest.mark.parametrize("io_dtype", ["float32", "int8"])
    def test_full_int8_computes_in_integers(
        self, run: Callable[..., tuple[Report, Path]], io_dtype: str, granularity: str
    ) -> None:
        step = {
            "technique": "quantize",
            "scheme": "full_int8",
            "io_dtype": io_dtype,
            "granularity": granularity,
            "calibration_samples": 150,
        }
        report, out = run(step, outputs=["tflite"])
        content = (out / "model.tflite").read_bytes()
        # Where in- and output are float, those two are all that is.
        assert dtypes(content)["float32"] == (2 if io_dtype == "float32" else 0)
        assert set(dtypes(content)) <= {"int8", "int32", "float32"}
        assert Program(content).input_dtype == report.outputs[0].input_dtype == io_dtype
        assert report.data is not None
        assert report.data.calibration == report.steps[0].details["calibration_samples"] == 150

    @pytest.mark.parametrize("scheme", ["float16", "full_int8", "weight_only", "dynamic"])
    def test_layers_not_selected_stay_float(
        self, run: Callable[..., tuple[Report, Path]], scheme: str
    ) -> None:
        step = {"technique": "quantize", "scheme": scheme, "layers": {"exclude": ["logits"]}}
        report, out = run(step, outputs=["tflite"])
        types = report.steps[0].details["layers"]
        assert types["logits"] == "float32"
        assert types["conv"] == ("float16" if scheme == "float16" else "int8")
        found = tensors((out / "model.tflite").read_bytes())
        logits = max((tensor for tensor in found if tensor.stored), key=lambda item: np.prod(item.shape))
        assert logits.dtype == "float32"

    def test_calibration_comes_from_the_training_samples_and_matters(
        self, run: Callable[..., tuple[Report, Path]]
    ) -> None:
        step = {"technique": "quantize", "scheme": "full_int8", "calibration_samples": 1}
        few, _ = run(step, outputs=["tflite"])
        many, _ = run({**step, "calibration_samples": 200}, outputs=["tflite"])
        assert "calibration_small" in {warning.code for warning in few.warnings}
        assert "calibration_small" not in {warning.code for warning in many.warnings}
        assert few.outputs[0].sha256 != many.outputs[0].sha256

    def test_every_output_of_a_row_is_delivered(self, run: Callable[..., tuple[Report, Path]]) -> None:
        for row in ROWS:
            if row.framework == self.framework and row.technique not in ("finetune", "distill"):
                steps = [{"technique": row.technique}]
                if row.technique == "quantize_aware":
                    steps.append({"technique": "finetune"})
                report, out = run(*steps, outputs=list(row.outputs))
                assert {path.name for path in out.iterdir()} == {
                    *(FILES[name] for name in row.outputs),
                    *(COMPANIONS[name] for name in row.outputs if name in COMPANIONS),
                    "report.html",
                    "report.json",
                    "spec.json",
                }
                assert [variant.format for variant in report.outputs] == list(row.outputs)

    def test_techniques_a_framework_lacks_are_refused(self) -> None:
        from featherweight.spec import CompressionSpec

        spec = CompressionSpec.model_validate({"steps": [{"technique": "prune"}]})
        assert support(spec, self.framework) == []
        assert support(spec, "none_such")[0].code == "unsupported_technique"
