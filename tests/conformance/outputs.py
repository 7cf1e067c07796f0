"""What every output format promises, measured in the files of one job that asks for all of them."""

from __future__ import annotations

import shutil
import subprocess
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featherweight.report import Report, Variant
from featherweight.spec import CompressionSpec, OutputFormat
from tasks.compression import Outcome, compress
from tasks.compression.litert import Program
from tasks.compression.onnx_program import OnnxProgram
from tasks.compression.outputs import FILES, PROGRAMS, program_in
from tasks.compression.samples import Array
from tasks.compression.sizes import sha256

STEPS = [{"technique": "prune"}, {"technique": "quantize", "scheme": "dynamic_int8"}]


def variant(report: Report, output: str) -> Variant:
    return next(item for item in report.outputs if item.format == output)


class OutputsConformance:
    """The module of a subclass has the fixtures `model_file` and `data_file` of the conformance tests."""

    native: OutputFormat = "keras"
    """The framework's own format, in which networks are delivered in float."""

    formats: tuple[OutputFormat, ...] = ("tflite", "keras", "saved_model", "c_array", "onnx")
    float_formats: tuple[OutputFormat, ...] = ("keras", "saved_model", "onnx")
    """Those of `formats` that hold float weights after the steps, too."""

    @abstractmethod
    def answers(self, output: str, path: Path, x: Array) -> Array:
        """What a delivered file of the framework's own formats answers, read without this project."""

    @pytest.fixture(scope="class")
    @classmethod
    def made(
        cls, model_file: Path, data_file: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> tuple[Outcome, Path]:
        work = tmp_path_factory.mktemp("outputs")
        spec = {"steps": STEPS, "outputs": cls.formats}
        return compress(model_file, spec, dataset=data_file, workdir=work), work / "out"

    @pytest.fixture(scope="class")
    @classmethod
    def samples(cls, data_file: Path) -> Array:
        with np.load(data_file) as arrays:
            return np.asarray(arrays["x"][:300])

    def test_every_format_is_among_the_artifacts_with_the_resolved_spec(
        self, made: tuple[Outcome, Path]
    ) -> None:
        outcome, _ = made
        names = {path.name for path in outcome.artifacts}
        files = {FILES[output] for output in self.formats}
        assert names == {*files, "model.h", "spec.json", "report.html", "report.json"}
        resolved = next(path for path in outcome.artifacts if path.name == "spec.json").read_bytes()
        assert CompressionSpec.model_validate_json(resolved).outputs == self.formats

    def test_digests_are_those_of_the_files(self, made: tuple[Outcome, Path]) -> None:
        outcome, out = made
        told = {item.name: item.sha256 for item in outcome.report.files}
        files = [FILES[output] for output in self.formats]
        assert told == {name: sha256(out / name) for name in (*files, "model.h")}

    def test_report_says_what_the_weights_are_and_how_good_the_file_is(
        self, made: tuple[Outcome, Path]
    ) -> None:
        for output in self.formats:
            told = variant(made[0].report, output)
            assert told.scheme == ("float32" if output in self.float_formats else "dynamic_int8"), output
            assert told.agreement is not None
            assert told.agreement > 0.97
            assert told.accuracy is not None
            assert told.accuracy.n == 400
            assert (told.latency is not None) == (output in PROGRAMS)

    def test_float_formats_answer_like_the_network_loaded_in_its_own_runtime(
        self, made: tuple[Outcome, Path], samples: Array
    ) -> None:
        _, out = made
        reference = self.answers(self.native, out / FILES[self.native], samples)
        assert reference.shape == (300, 10)
        for output in self.float_formats:
            if output == "onnx":
                found = OnnxProgram(out / FILES[output]).predict(samples)
                assert isinstance(found, np.ndarray)
            else:
                found = self.answers(output, out / FILES[output], samples)
            np.testing.assert_allclose(found, reference, atol=1e-4 * float(abs(reference).max()))

    def test_float_formats_hold_the_zeros_that_pruning_made(self, made: tuple[Outcome, Path]) -> None:
        report = made[0].report
        for output in self.float_formats:
            told = variant(report, output)
            assert told.nonzero_parameters is not None
            assert told.parameters is not None
            assert told.nonzero_parameters < 0.6 * told.parameters

    def test_c_array_is_the_tflite(self, made: tuple[Outcome, Path]) -> None:
        _, out = made
        assert program_in("c_array", out / "model.c") == (out / "model.tflite").read_bytes()

    @pytest.mark.parametrize("language", ["c", "c++"])
    def test_c_array_compiles_to_the_bytes_of_the_tflite_at_an_aligned_address(
        self, made: tuple[Outcome, Path], tmp_path: Path, language: str
    ) -> None:
        compiler = shutil.which("gcc" if language == "c" else "g++")
        if compiler is None:
            pytest.skip(f"no compiler for {language}")
        _, out = made
        main = tmp_path / "main.c"
        main.write_text(
            '#include <stdint.h>\n#include <stdio.h>\n#include "model.h"\n#include "model.h"\n'
            "int main(void) {\n"
            "  if ((uintptr_t)model_tflite % 16 != 0) return 1;\n"
            "  return fwrite(model_tflite, 1, model_tflite_len, stdout) == model_tflite_len ? 0 : 2;\n}\n"
        )
        program = tmp_path / "program"
        standard = "c11" if language == "c" else "c++11"
        flags = ["-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic"]
        subprocess.run(
            [compiler, *flags, "-I", str(out), str(main), str(out / "model.c"), "-o", str(program)],
            check=True,
        )
        answer = subprocess.run([str(program)], check=True, capture_output=True)
        assert answer.stdout == (out / "model.tflite").read_bytes()
        assert Program(answer.stdout).open_batch

    def test_made_again_the_files_are_the_same(
        self, made: tuple[Outcome, Path], model_file: Path, data_file: Path, tmp_path: Path
    ) -> None:
        _, out = made
        compress(model_file, {"steps": STEPS, "outputs": self.formats}, dataset=data_file, workdir=tmp_path)
        names = [FILES[output] for output in self.formats]
        again = {name: sha256(tmp_path / "out" / name) for name in names}
        assert again == {name: sha256(out / name) for name in names}

    def test_c_array_alone_will_do_for_a_quantised_job(self, model_file: Path, tmp_path: Path) -> None:
        spec = {"steps": [{"technique": "quantize", "scheme": "float16"}], "outputs": ["c_array"]}
        outcome = compress(model_file, spec, workdir=tmp_path)
        names = {path.name for path in outcome.artifacts}
        assert names == {"model.c", "model.h", "spec.json", "report.html", "report.json"}
        assert outcome.report.outputs[0].scheme == "float16"
        assert outcome.report.baseline is not None


def as_float(values: npt.NDArray[Any]) -> Array:
    return np.asarray(values, dtype=np.float32)
