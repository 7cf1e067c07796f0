"""The report as a page: whole, sealed, and safe with whatever names a caller's files have."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from featherweight.report import Report
from tasks.compression.page import page
from tasks.compression.page.document import MAX_BYTES
from tests.clients.sample_report import REPORT

EPOCHS = [
    {
        "epoch": index,
        "seconds": 1.0,
        "metrics": {"loss": 1 / index, "val_accuracy": 0.9, "learning_rate": 1e-3},
    }
    for index in (1, 2, 3)
]
FULL: dict[str, Any] = {
    **REPORT,
    "steps": [
        {
            "index": 0,
            "technique": "finetune",
            "seconds": 3.0,
            "key": "k",
            "epochs": EPOCHS,
            "reached": {
                "format": "keras",
                "gzip_bytes": 40_000,
                "accuracy": REPORT["original"]["accuracy"],
            },
        }
    ],
}
NASTY = "<script>alert(1)</script>\"'&$x^2$\u202e"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


def test_it_has_a_chart_of_everything_measured() -> None:
    text = page(Report.model_validate(FULL))
    # Size and metric, classes, training, layers.
    assert text.count("<svg") == text.count("</svg>") == 4
    for words in ("gzipped size", "class 8", "val_accuracy", "SNR against float", "after each step"):
        assert words in text
    assert "FULLY_CONNECTED" in text
    assert "0 finetune" in text
    assert len(text.encode()) < MAX_BYTES


def test_files_that_are_alike_share_their_chart_and_table() -> None:
    output = FULL["outputs"][0]
    worse = {**output, "name": "model.keras", "by_class": [{**output["by_class"][0], "change": -0.1}]}
    outputs = [output, {**output, "name": "model.c"}, {**worse, "operators": None}]
    text = page(Report.model_validate({**FULL, "outputs": outputs}))
    assert text.count("classes, the worst first") == 2
    assert "model.tflite and model.c: classes" in text
    assert "Operations of model.tflite and model.c" in text


def test_every_output_of_a_model_has_its_charts() -> None:
    def parts(item: dict[str, Any]) -> dict[str, Any]:
        part = {name: item.get(name) for name in ("accuracy", "difference", "by_class")}
        return {**item, "by_output": {"kind": part, "mood": part}}

    several = {**FULL, "original": parts(FULL["original"]), "outputs": [parts(FULL["outputs"][0])]}
    text = page(Report.model_validate(several))
    for name in ("kind", "mood"):
        assert f"{name}: size against the metric" in text
        assert f"output {name}: classes" in text


def test_it_runs_nothing_and_fetches_nothing() -> None:
    text = page(Report.model_validate(FULL))
    tags = Tags(text)
    assert not {"script", "link", "img", "iframe", "object", "image", "foreignobject"} & set(tags.names)
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    targets = [value or "" for name, value in tags.attributes if name in ("src", "href", "xlink:href")]
    assert all(target.startswith("#") for target in targets)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text


def test_charts_take_the_colour_of_the_page() -> None:
    text = page(Report.model_validate(FULL))
    assert "currentColor" in text
    assert "#000000" not in text
    assert "#010203" not in text


@pytest.mark.parametrize("where", ["layer", "file", "metric", "warning"])
def test_names_of_strangers_stay_words(where: str) -> None:
    report: dict[str, Any] = {**FULL}
    if where == "layer":
        report["layers"] = [{**REPORT["layers"][0], "name": NASTY, "kind": NASTY, "skipped": NASTY}]
    if where == "file":
        report["outputs"] = [{**REPORT["outputs"][0], "name": NASTY, "scheme": NASTY}]
    if where == "metric":
        accuracy = {**REPORT["original"]["accuracy"], "metric": NASTY}
        report["original"] = {**REPORT["original"], "accuracy": accuracy}
        report["steps"] = [
            {**FULL["steps"][0], "epochs": [{**EPOCHS[0], "metrics": {NASTY: 1.0, "loss": 1.0}}]}
        ]
    if where == "warning":
        report["warnings"] = [{"code": NASTY, "message": NASTY, "layer": NASTY}]
    text = page(Report.model_validate(report))
    assert "script" not in Tags(text).names
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_thousands_of_layers_fit() -> None:
    layers = [{**REPORT["layers"][0], "name": f"block_{index}/conv"} for index in range(3000)]
    text = page(Report.model_validate({**FULL, "layers": layers}))
    assert len(text.encode()) < MAX_BYTES
    assert "1,000 more stand in report.json" in text


def test_without_measurements_it_is_a_page_all_the_same() -> None:
    bare = {**REPORT, "data": None, "baseline": None, "warnings": [], "layers": [], "steps": []}
    bare["outputs"] = [{**REPORT["outputs"][0], "accuracy": None, "by_class": None, "operators": None}]
    bare["original"] = {**REPORT["original"], "accuracy": None}
    text = page(Report.model_validate(bare))
    assert "<svg" not in text
    assert text.endswith("</html>\n")
