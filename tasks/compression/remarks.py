"""The warnings a report can hold: every code with its sentence, and the emitter's only source of them."""

from __future__ import annotations

from typing import Any

from featherweight.report import ReportWarning

__all__ = ["SENTENCES", "remark"]

SENTENCES: dict[str, str] = {
    # the model
    "compiled_state_ignored": "The model's compiled {part} was not used ({why}); the report says what was.",
    "rebuilt_from_keras3": (
        "The model was saved by Keras {version} and rebuilt layer by layer for Keras 2, which pruning works "
        "on; on random inputs the outputs differ by {difference:.1e} of their largest value at most. The "
        "keras output is a Keras 3 file again."
    ),
    "rebuilt_from_saved_model": (
        "The SavedModel's Keras network was built again from its configuration and checkpoint; on random "
        "inputs the outputs differ by {difference:.1e} of their largest value at most."
    ),
    "rebuilt_from_program": (
        "The exported program was rebuilt as layers; on random inputs the outputs differ by {difference:.1e} "
        "of their largest value at most."
    ),
    "kept_as_function": (
        "The model multiplies by {parameter} with the operator {operator}, which is no layer here: it stays "
        "as it is, trained with the rest and never pruned."
    ),
    "taken_as_graph": (
        "The SavedModel is taken as what its signature {signature} computes, and can be converted and "
        "quantised alone: {why}."
    ),
    "optimizer_state_in_original": (
        "The uploaded file holds optimiser state. Ratios compare with the model alone, saved without it: "
        "{bytes} bytes, {gzip_bytes} gzipped."
    ),
    "existing_zeros_kept": "The layer came with {share:.1%} zeros in its weights; fine-tuning kept them.",
    # the data
    "channel_axis_added": "A channel axis of size 1 was added to the samples{of}: {before} became {after}.",
    "data_option_unused": "data.{part} has no effect: the data set is of the format {format}.",
    "data_without_dataset": "The spec says how a data set is read, and the job has none.",
    "members_left_out": "{count} files of the archive are no images and were left out, the first {name}.",
    "values_rounded": "The column {column} holds whole numbers above 16,777,216, which float32 rounds.",
    "samples_across_splits": (
        "{count} of the {test} test samples are in the {others} samples of training and validation too: what "
        "is measured on them flatters."
    ),
    "single_class": "Every labelled sample is of class {number}{of}: there is nothing to tell apart.",
    "samples_of_another_range": (
        "The samples run from {low:g} to {high:g}. Networks for images are mostly trained on 0 to 1 or "
        "-1 to 1, unless they bring their own scaling: see data.image.scale, or divide by 255."
    ),
    "test_split_small": "The test split has {count} samples; the intervals are wide.",
    "calibration_small": "Only {count} samples were there to calibrate on; {wanted} or more are advised.",
    "no_labels": (
        "The data set has no labels: what outputs are measured by is {metric}, against the original's own "
        "answers on the test split, and says nothing of right or wrong."
    ),
    "output_without_labels": (
        "The data set has no labels for the output {output}: it is measured by {metric}, against the "
        "original's own answers on the test split, which says nothing of right or wrong."
    ),
    "output_not_trained": (
        "Step {index} trains without the output {output}, which has no labels and may drift: distill holds "
        "it to the original's answers."
    ),
    "class_missing_in_training": "{count} of the model's {classes} classes have no training sample{of}.",
    "class_missing_in_split": (
        "{count} of the data set's {classes} classes have no sample in the {split} split{of}, among them "
        "class {first}: {what}."
    ),
    "baseline_near_chance": (
        "The original scores {value:.1%} on the test split{of}, no better than always naming the commonest "
        "class: data and model may not belong together (scaling, label order)."
    ),
    # the steps
    "layer_skipped": "The layer was selected for pruning and left as it is: {why}.",
    "layer_not_shared": "The layer was selected for clustering and left as it is: {why}.",
    "nothing_shared": (
        "The layer has {count} different weights{where}, no more than the {clusters} values they may take: "
        "none had to be shared."
    ),
    "channels_left_alone": "The layer was selected and lost no channel: {why}.",
    "target_not_reached": (
        "{reached:.1%} of the {measure} are left, not the {asked:.1%} asked for: no further channel may go."
    ),
    "not_decomposed": "The layer was selected for decomposition and left as it is: {why}.",
    "rank_not_low_enough": (
        "{reached:.1%} of the parameters are left, not the {asked:.1%} asked for: there is no lower rank."
    ),
    "zeros_lost": "The layer came with {share:.1%} zeros in its weights; the layers in its place have none.",
    "kernel_penalty_dropped": (
        "The layer's {name} was for its kernel as a whole; the layers in its place have none."
    ),
    "macs_assumed": "The layer's MACs are counted {how}.",
    "sparsity_not_reached": "The layer reached {reached:.2%} sparsity of the {target:.2%} asked for{why}.",
    "schedule_ends_late": (
        "A schedule reaches {target:.2%} at step {end}, after the training's {steps} steps: its layers will "
        "reach {reached:.2%}."
    ),
    "summaries_need_training": "No training step follows the step: there is nothing to summarise.",
    "override_unused": (
        "Override {index} has no effect: the step changes no layer that it matches and no earlier one does."
    ),
    "nothing_changed": "Step {index} ({technique}) changed nothing in the model.",
    "fewer_steps_than_frequency": (
        "The schedule takes {steps} steps and masks are updated every {frequency}: sparsity jumps "
        "instead of rising."
    ),
    "best_among_few": (
        "{option} had {count} of {epochs} epochs to choose from: the schedules of pruning end with step "
        "{step}. An earlier end leaves more."
    ),
    "warm_up_not_finished": "The warm-up takes {warmup} steps and the training {steps}: the learning rate "
    "reached {reached:g}.",
    "rate_never_falls": "The learning rate would fall after {every} epochs, and the training has {epochs}.",
    "no_batch_norm": "freeze_batch_norm changed nothing: the model has no batch normalisation.",
    "augmentation_empty": "The augmentation says what may be changed for none of its parts: nothing was.",
    "computed_in_float": "The layer was selected for quantisation and computes in float: {why}.",
    "left_float": "The layer was selected for quantisation and its weights stay float: {why}.",
    "output_left_float": "The output {output} has float weights: {why}.",
    "untraced_weights": (
        "{count} operations with weights could not be traced back to a layer; they were quantised."
    ),
    "not_left_float": "The layer was to stay float and is {dtype}: it shares its weights with another.",
    "drop_not_met": (
        "With {layers} layers left in float the {metric} on the validation split still drops by {drop:.4g}, "
        "more than {wanted:.4g}."
    ),
    "checkpoint_not_kept": (
        "A checkpoint of the training could not be written ({why}): had the worker been lost, the step would "
        "have begun anew."
    ),
    # plans
    "not_looked_at": "{what} is only looked at when the job runs.",
    "samples_not_counted": (
        "The data set was not read ({why}): what depends on the number of samples is left out."
    ),
    # the outputs
    "output_missing": "The output {output} is missing: {why}.",
    "not_stripped": "{name} kept its names and metadata: without them it was not seen to answer the same.",
    "unstructured_sparsity_no_speed": (
        "Scattered zeros make neither the raw file smaller nor dense kernels faster; they pay when the file "
        "is gzipped. Speed comes from quantisation, from prune_channels, or of Keras models from the pattern "
        "xnnpack_latency."
    ),
    "slower_than_original": (
        "{name} takes {value:.3f} ms per inference (median), the float original {baseline:.3f} ms."
    ),
    "worse_beyond_chance": (
        "{name}: the {metric}{of} differs from the original's by {value} on the same samples, more than "
        "chance explains: the 95 % interval runs from {low} to {high}."
    ),
    "larger_than_original": "{name} is larger gzipped than the original ({value} against {baseline} bytes).",
    "partly_quantized": "{count} tensors of {name} are still float.",
    "fixed_batch": "{name} takes one sample at a time: the model could not be converted with an open batch.",
    "not_verified": "{name} could not be compared with its float source: {why}.",
}


def remark(code: str, *, layer: str | None = None, **values: Any) -> ReportWarning:
    """The warning of `code` with its sentence filled in; KeyError for an unknown code or a missing value."""
    return ReportWarning(code=code, message=SENTENCES[code].format(**values), layer=layer)
