"""Models of several inputs and outputs, with a data set: trained, converted, measured, reported by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featherweight.report import Report, Variant
from featherweight.spec import Finetune
from tasks.compression import CompressionError, compress
from tasks.compression.litert import Program
from tasks.compression.samples import Samples
from tests.compression.networks import keras, save_model
from tests.compression.several import CLASSES, NAMES, OUTPUTS, arrays, samples, save_trained

Array = npt.NDArray[Any]
Run = Callable[..., tuple[Report, Path]]

FINETUNE = {"technique": "finetune", "epochs": 3, "batch_size": 32}
DISTILL = {**FINETUNE, "technique": "distill"}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trained(tmp_path_factory.mktemp("several") / "model.keras")


@pytest.fixture
def run(model_file: Path, tmp_path: Path) -> Run:
    def run(
        *steps: dict[str, Any], data: dict[str, Array] | None, model: Path = model_file, **spec: Any
    ) -> tuple[Report, Path]:
        path = tmp_path / "data.npz"
        if data is not None:
            np.savez(path, **data)
        document = {"steps": list(steps), "outputs": ["tflite", "keras"], **spec}
        outcome = compress(model, document, dataset=None if data is None else path, workdir=tmp_path / "work")
        return outcome.report, tmp_path / "work" / "out"

    return run


@pytest.fixture
def refused(run: Run) -> Callable[..., CompressionError]:
    def refused(*steps: dict[str, Any], **options: Any) -> CompressionError:
        with pytest.raises(CompressionError) as caught:
            run(*(steps or (FINETUNE,)), **options)
        return caught.value

    return refused


def value(variant: Variant, output: str) -> float:
    assert variant.by_output is not None
    accuracy = variant.by_output[output].accuracy
    assert accuracy is not None
    return accuracy.value


def codes(report: Report) -> list[str]:
    return [warning.code for warning in report.warnings]


def test_converted_file_has_another_order_and_is_read_by_name(run: Run) -> None:
    report, out = run({"technique": "prune"}, data=None, tflite_names="keep")
    program = Program((out / "model.tflite").read_bytes())
    network = keras().models.load_model(out / "model.keras", compile=False)
    made = samples(40, seed=1)
    answers = program.predict(Samples(NAMES, tuple(made[name] for name in NAMES)))
    assert isinstance(answers, Samples)
    assert answers.names == ("kind", "size")
    assert network.output_names == list(OUTPUTS)
    expected = network([made[name] for name in NAMES])
    for name, wanted in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(answers.of(name), wanted, atol=1e-4)
    for variant in report.outputs:
        assert variant.by_output is not None
        assert {part.accuracy for part in variant.by_output.values()} == {None}
        assert all(part.max_abs_difference < 1e-4 for part in variant.by_output.values())  # type: ignore[operator]
    assert "not_verified" not in codes(report)
    assert report.verdict == "smaller_unverified"


def test_inputs_of_other_names_are_a_mistake(run: Run) -> None:
    _, out = run({"technique": "prune"}, data=None)
    made = samples(4)
    with pytest.raises(ValueError, match="angle"):
        Program((out / "model.tflite").read_bytes()).predict(Samples(("zoom", "tilt"), (made["zoom"],) * 2))


def test_pruned_finetuned_and_quantised_on_both_outputs(run: Run) -> None:
    report, out = run(
        {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.3}},
        {**FINETUNE, "keep_best": True, "early_stopping": {"patience": 3, "monitor": "val_metric"}},
        {
            "technique": "quantize",
            "scheme": "full_int8",
            "calibration_candidates": 2,
            "sensitivity": {"max_drop": 0.5, "max_float_layers": 1},
        },
        data=arrays(),
    )
    tflite, whole = report.outputs
    for variant in (report.original, tflite, whole):
        assert value(variant, "size") < 0.6
        assert value(variant, "kind") > 0.8
        assert variant.accuracy == (variant.by_output or {})["size"].accuracy
    assert (tflite.by_output or {})["kind"].agreement is not None
    step, trained, quantized = report.spec["steps"][1], report.steps[1], report.steps[2]
    assert step["loss"] == {"size": "mean_squared_error", "kind": "sparse_categorical_crossentropy"}
    assert step["metrics"] == {"size": ["mean_absolute_error"], "kind": ["accuracy"]}
    assert step["loss_weights"] == {"size": 0.5, "kind": 1.0}
    names = {
        "loss",
        "size_loss",
        "kind_loss",
        "val_loss",
        "val_size_mean_absolute_error",
        "val_kind_accuracy",
    }
    assert names <= trained.epochs[0].metrics.keys()
    metrics = trained.epochs[0].metrics
    assert metrics["loss"] == pytest.approx(0.5 * metrics["size_loss"] + metrics["kind_loss"], rel=1e-4)
    assert set(quantized.details["calibration"]["divergence"]) == set(OUTPUTS)
    assert set(quantized.details["layers"].values()) == {"int8"}
    fields = {item.field: item for item in report.inferred}
    assert fields["size/task"].value == "regression"
    assert fields["kind/loss"].source == fields["loss_weights"].source == "compiled_model"
    assert json.loads((out / "report.json").read_text())["outputs"][0]["by_output"].keys() == set(OUTPUTS)
    assert report.data is not None
    assert report.data.classes is None  # of the first output, a regression


def test_int8_inputs_are_calibrated_each_on_its_own_range(run: Run) -> None:
    _, out = run({"technique": "quantize", "scheme": "full_int8", "io_dtype": "int8"}, data=arrays())
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=(out / "model.tflite").read_bytes())
    details = interpreter.get_signature_runner().get_input_details()
    scales = {name: details[name]["quantization_parameters"]["scales"][0] for name in NAMES}
    assert scales["angle"] > 20 * scales["zoom"]


@pytest.mark.parametrize(
    "step",
    [
        {"scheme": "dynamic_int8"},
        {"scheme": "int16x8"},
        {"scheme": "weight_only", "algorithm": "gptq"},
    ],
    ids=lambda step: step["scheme"],
)
def test_every_converter_keeps_the_names(run: Run, step: dict[str, Any]) -> None:
    report, _ = run({"technique": "quantize", **step}, data=arrays())
    for output in OUTPUTS:
        before, after = value(report.original, output), value(report.outputs[0], output)
        assert after == pytest.approx(before, abs=0.05)
    assert report.verdict == "smaller"


def test_output_without_labels_is_distilled_and_measured_against_the_original(run: Run) -> None:
    report, _ = run(
        {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.3}},
        {**DISTILL, "features": ["trunk"]},
        data=arrays(y__size=None),
    )
    told = (report.outputs[0].by_output or {})["size"].accuracy
    assert told is not None
    assert told.metric == "mean_absolute_error_from_original"
    assert told.value < 0.5
    assert (report.original.by_output or {}).keys() == {"kind"}
    assert report.original.accuracy == (report.original.by_output or {})["kind"].accuracy
    assert codes(report).count("output_without_labels") == 1
    assert "output_not_trained" not in codes(report)
    assert report.verdict == "smaller_unverified"


def test_finetuning_leaves_an_output_without_labels_out_and_says_so(run: Run) -> None:
    report, _ = run({**FINETUNE, "learning_rate": 0.01}, data=arrays(y__size=None))
    assert report.spec["steps"][0]["loss"] == {"kind": "sparse_categorical_crossentropy"}
    assert "size_loss" not in report.steps[0].epochs[0].metrics
    assert "output_not_trained" in codes(report)


def test_no_labels_at_all_are_enough_to_distil(run: Run) -> None:
    report, _ = run({**DISTILL, "weight": 1.0, "epochs": 1}, data=arrays(y__size=None, y__kind=None))
    assert report.original.accuracy is None
    assert value(report.outputs[0], "kind") > 0.9
    assert report.verdict == "smaller_unverified"


def test_channels_go_by_the_gradients_of_all_outputs(run: Run) -> None:
    report, _ = run({"technique": "prune_channels", "importance": "taylor"}, FINETUNE, data=arrays())
    assert report.steps[0].details["channels"]["trunk"] == {"before": 48, "after": 24}
    assert value(report.outputs[0], "kind") > 0.8


def test_spec_by_output_wins_over_the_compiled_model(run: Run) -> None:
    step = {
        **FINETUNE,
        "epochs": 1,
        "loss": {"size": "mean_absolute_error"},
        "metrics": {"size": ["mean_squared_error", "mean_absolute_error"]},
        "loss_weights": {"kind": 0},
    }
    report, _ = run(step, data=arrays())
    resolved, metrics = report.spec["steps"][0], report.steps[0].epochs[0].metrics
    assert resolved["loss"]["size"] == "mean_absolute_error"
    assert resolved["loss_weights"] == {"size": 1.0, "kind": 0.0}
    assert metrics["loss"] == pytest.approx(metrics["size_loss"], rel=1e-5)
    assert "val_size_mean_squared_error" in metrics
    measured = (report.outputs[0].by_output or {})["size"].accuracy
    assert measured is not None
    assert measured.metric == "mean_squared_error"


def test_arrays_go_by_position_and_splits_are_the_callers(run: Run) -> None:
    made = samples()
    data = {
        f"{side}_{split}/{place}": made[name][rows]
        for split, rows in (("train", slice(0, 500)), ("test", slice(500, 600)))
        for side, names in (("x", NAMES), ("y", OUTPUTS))
        for place, name in enumerate(names)
    }
    report, _ = run({"technique": "quantize", "scheme": "dynamic_int8"}, data=data)
    assert report.data is not None
    assert (report.data.test, report.data.test_source) == (100, "caller")
    assert value(report.original, "kind") > 0.9


def test_classes_are_divided_alike(run: Run, model_file: Path, tmp_path: Path) -> None:
    from featherweight.spec import CompressionSpec
    from tasks.compression.backends.tensorflow import backend
    from tasks.compression.data import prepare

    np.savez(tmp_path / "d.npz", **arrays())
    loaded = backend.load(model_file, tmp_path, lambda warning: None)
    spec = CompressionSpec(steps=(Finetune(technique="finetune"),))
    data = prepare(
        tmp_path / "d.npz", loaded.facts, spec, tmp_path / "decoded", lambda warning: None, lambda x: x
    )
    kinds = samples()["kind"]
    for part in (data.train, data.validation, data.test):
        _, counts = np.unique(kinds[part], return_counts=True)
        assert counts.max() - counts.min() <= 1


X = np.zeros((600, 6), np.float32)


@pytest.mark.parametrize(
    ("data", "code", "pointer", "words"),
    [
        (arrays(x__angle=None), "array_missing", "/dataset/x~1angle", "x/angle"),
        (arrays(x__tilt=X), "shape_mismatch", "/dataset/x~1tilt", "zoom, angle"),
        (arrays(y__kin=samples()["kind"]), "shape_mismatch", "/dataset/y~1kin", "did you mean y/kind"),
        (arrays(x__2=X), "shape_mismatch", "/dataset/x~12", "zoom, angle"),
        (arrays(x__0=X), "bad_data", "/dataset/x~10", "the same tensor"),
        (arrays(x=X), "array_missing", "/dataset/x", "x/zoom, x/angle"),
        (arrays(y=samples()["kind"]), "array_missing", "/dataset/y", "y/size, y/kind"),
        (arrays(y__size=None, y__kind=None), "array_missing", "/dataset/y~1size", "weight 1"),
        (arrays(x__angle=X[:, :4][:599]), "shape_mismatch", "/dataset/x~1angle", "599"),
        (arrays(y__size=np.zeros(3)), "shape_mismatch", "/dataset/y~1size", "y/size has 3"),
        (arrays(x__angle=X), "shape_mismatch", "/dataset/x~1angle", "samples x/angle"),
        (arrays(y__kind=samples()["kind"] + 1), "label_out_of_range", "/dataset/y~1kind", "output kind"),
        (arrays(y__kind=np.zeros((600, 2))), "shape_mismatch", "/dataset/y~1kind", "output kind"),
        (arrays(y__size=samples()["size"] * np.nan), "not_finite", None, "y/size holds"),
        ({f"x_train/{name}": samples()[name] for name in NAMES} | {"y_train/size": samples()["size"],
          "x_test/zoom": X}, "array_missing", "/dataset/x_test~1angle", "x_test/angle"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_the_model_are_refused_by_name(
    refused: Callable[..., CompressionError],
    data: dict[str, Array],
    code: str,
    pointer: str | None,
    words: str,
) -> None:
    error = refused(data=data)
    assert (error.code, error.pointer) == (code, pointer)
    assert words in f"{error.detail} {error.hint}"


@pytest.mark.parametrize(
    ("options", "code", "pointer", "words"),
    [
        ({"loss": {"sise": "mean_squared_error"}}, "invalid_request", "/loss/sise", "size, kind"),
        ({"metrics": {"a/b": ["accuracy"]}}, "invalid_request", "/metrics/a~1b", "size, kind"),
        ({"loss_weights": {"x": 1}}, "invalid_request", "/loss_weights/x", "size, kind"),
        ({"loss_weights": {"size": 0, "kind": 0}}, "invalid_request", "/loss_weights", "nothing"),
        ({"loss": "mean_squared_error"}, "loss_not_inferable", "/loss", "output kind"),
        ({"metrics": ["accuracy"]}, "loss_not_inferable", "/metrics", "output size"),
        ({"class_weights": "balanced"}, "invalid_request", "/class_weights", "one output"),
        ({"augmentation": {"shift": 0.1}}, "invalid_request", "/augmentation", "none of the model's inputs"),
    ],
)
def test_options_that_do_not_go_with_the_outputs_are_refused(
    refused: Callable[..., CompressionError], options: dict[str, Any], code: str, pointer: str, words: str
) -> None:
    error = refused({**FINETUNE, **options}, data=arrays())
    assert (error.code, error.pointer) == (code, f"/steps/0{pointer}")
    assert words in error.detail


def test_loss_of_an_unlabelled_output_must_be_known_to_distil_it(
    refused: Callable[..., CompressionError], tmp_path: Path
) -> None:
    model = save_trained(tmp_path / "plain.keras", compiled=False)
    error = refused(DISTILL, data=arrays(y__size=None), model=model)
    assert (error.code, error.pointer) == ("loss_not_inferable", "/steps/0/loss")
    assert "output size" in error.detail


def test_single_output_takes_a_mapping_and_keeps_its_plain_report(run: Run, tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential(
        [layers.InputLayer((6,)), layers.Dense(16), layers.Dense(CLASSES, name="kind")]
    )
    path = save_model(model, tmp_path / "one.keras")
    made = samples()
    data = {"x": made["zoom"], "y/kind": made["kind"]}
    step = {**FINETUNE, "epochs": 1, "loss": {"kind": "sparse_categorical_crossentropy"}}
    report, out = run(step, data=data, model=path)
    assert report.spec["steps"][0]["loss"] == "sparse_categorical_crossentropy"
    assert "loss_weights" not in report.spec["steps"][0]
    assert "by_output" not in (out / "report.json").read_text()
    with pytest.raises(CompressionError, match="the model has one"):
        run({**step, "loss_weights": {"kind": 2}}, data=data, model=path)


def test_two_inputs_and_one_output_need_no_mapping(run: Run, tmp_path: Path) -> None:
    """With an image among the inputs, which alone is augmented."""
    layers = keras().layers
    image, number = layers.Input((8, 8, 1), name="image"), layers.Input((2,), name="a number")
    both = layers.Concatenate()([layers.Flatten()(image), number])
    model = keras().Model([image, number], layers.Dense(1, name="out")(both))
    path = save_model(model, tmp_path / "two.keras")
    generator = np.random.default_rng(0)
    x, z = generator.random((200, 8, 8), np.float32), generator.random((200, 2), np.float32)
    report, _ = run(
        {**FINETUNE, "augmentation": {"flip_horizontal": True, "shift": 0.2}, "learning_rate": 0.01},
        {"technique": "quantize", "scheme": "full_int8"},
        data={"x/image": x, "x/a number": z, "y": 5 * z.sum(axis=1)},
        model=path,
    )
    assert report.spec["steps"][0]["loss"] == "mean_squared_error"
    assert all(variant.by_output is None for variant in report.outputs)
    losses = [epoch.metrics["loss"] for epoch in report.steps[0].epochs]
    assert losses[-1] < losses[0] / 2
    assert codes(report).count("channel_axis_added") == 1


def test_models_made_with_mappings_are_trained_and_converted(run: Run, tmp_path: Path) -> None:
    layers = keras().layers
    first, second = layers.Input((6,), name="zoom"), layers.Input((4,), name="angle")
    trunk = layers.Concatenate()([first, layers.Rescaling(0.01)(second)])
    outputs = {"b": layers.Dense(1, name="size")(trunk), "a": layers.Dense(CLASSES, name="kind")(trunk)}
    path = save_model(keras().Model({"q": first, "p": second}, outputs), tmp_path / "maps.keras")
    step = {**FINETUNE, "learning_rate": 0.05, "epochs": 5}
    report, _ = run({"technique": "prune"}, step, data=arrays(), model=path)
    tflite = report.outputs[0]
    assert list(tflite.by_output or {}) == ["kind", "size"]
    assert value(tflite, "kind") > 0.6
    assert report.steps[1].details["loss"]["size"] == "mean_squared_error"


def test_worse_on_one_output_is_worse(run: Run) -> None:
    data = arrays()
    report, _ = run({"technique": "prune", "layers": {"include": ["towards_size"]}}, data=data)
    assert value(report.outputs[0], "kind") == value(report.original, "kind")
    assert report.verdict == "smaller_but_worse"
    said = [item.message for item in report.warnings if item.code == "worse_beyond_chance"]
    assert [text.split(" differs")[0] for text in said] == [
        f"{item.name}: the mean_absolute_error of the output size" for item in report.outputs
    ]


def test_outputs_of_every_task_are_trained_and_measured_in_their_own_terms(run: Run, tmp_path: Path) -> None:
    layers = keras().layers
    image = layers.Input((6, 6, 1), name="image")
    hidden = layers.Dense(24, activation="relu")(layers.Flatten()(image))
    back = layers.Reshape((6, 6, 1), name="back")(layers.Dense(36, activation="sigmoid")(hidden))
    heads = [
        layers.Dense(width, activation=activation, name=name)(hidden)
        for name, width, activation in (("tags", 3, "sigmoid"), ("flag", 1, "sigmoid"), ("kind", 4, None))
    ]
    path = save_model(keras().Model(image, [back, *heads]), tmp_path / "tasks.keras")
    generator = np.random.default_rng(0)
    x = generator.random((240, 6, 6, 1), np.float32)
    tags = (x[:, :3].mean((2, 3)) > 0.5).astype(np.int64)
    labels = {"y/back": x, "y/tags": tags, "y/flag": tags[:, 0], "y/kind": generator.integers(0, 4, 240)}
    report, _ = run({**FINETUNE, "epochs": 1}, {"technique": "quantize"}, data={"x": x, **labels}, model=path)
    tasks = {item.field: item.value for item in report.inferred if item.field.endswith("/task")}
    assert list(tasks.values()) == ["regression", "multilabel", "binary", "classification"]
    parts = report.outputs[0].by_output or {}
    assert [part.accuracy and part.accuracy.metric for part in parts.values()] == [
        "mean_squared_error",
        "binary_accuracy",
        "binary_accuracy",
        "accuracy",
    ]
    with pytest.raises(CompressionError, match="move the images"):
        run({**FINETUNE, "augmentation": {"shift": 0.1}}, data={"x": x, **labels}, model=path)


def test_inputs_of_several_types_keep_them(run: Run, tmp_path: Path) -> None:
    layers = keras().layers
    ids, number = layers.Input((3,), dtype="int32", name="ids"), layers.Input((2,), name="number")
    both = layers.Concatenate()([layers.Flatten()(layers.Embedding(20, 4)(ids)), number])
    heads = [layers.Dense(2, activation="softmax", name="high")(both), layers.Dense(1, name="sum")(both)]
    path = save_model(keras().Model([ids, number], heads), tmp_path / "types.keras")
    generator = np.random.default_rng(0)
    x, z = generator.integers(0, 20, (300, 3)), generator.random((300, 2))
    data = {"x/ids": x, "x/number": z, "y/high": (x[:, 0] > 9).astype(int), "y/sum": z.sum(axis=1)}
    steps = {**FINETUNE, "learning_rate": 0.02}, {"technique": "quantize", "io_dtype": "int8"}
    report, _ = run(*steps, data=data, model=path)
    assert report.outputs[0].input_dtype == "int32+int8"
    assert value(report.outputs[0], "high") > 0.8


def test_job_tried_again_takes_its_steps_over(run: Run) -> None:
    steps = {"technique": "prune"}, {**FINETUNE, "epochs": 1}
    first, _ = run(*steps, data=arrays())
    again, _ = run(*steps, data=arrays())
    assert [step.reused for step in again.steps] == [True, True]
    assert [file.sha256 for file in again.files] == [file.sha256 for file in first.files]
    assert again.outputs[0].by_output == first.outputs[0].by_output
