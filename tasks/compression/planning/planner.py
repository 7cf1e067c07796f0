"""Goes through the steps of a spec, asking each technique what it would do."""

from __future__ import annotations

from dataclasses import replace

from featherweight.plan import Plan, PlanData, PlanModel, PlannedLayer, PlannedStep, PlanProblem
from featherweight.problem import FieldError
from featherweight.report import ReportWarning
from featherweight.spec import CompressionSpec, Step
from tasks.compression.abilities import unable
from tasks.compression.catalogue import missing_dataset, resolve, row, support
from tasks.compression.delivery import Delivery
from tasks.compression.errors import CompressionError
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.skeleton import Cost, cost
from tasks.compression.outputs import holds_program
from tasks.compression.planning.costs import memory_peak
from tasks.compression.planning.division import Shapes, divide
from tasks.compression.planning.outputs import OPEN_SIZES, blocked, has_open_sizes
from tasks.compression.planning.sizes import size_of
from tasks.compression.planning.state import Context, State
from tasks.compression.remarks import remark
from tasks.compression.resolve import optimiser_steps, resolve_schedule
from tasks.compression.waiting import carrier

__all__ = ["plan"]

_BY_CALLS = ("prune_channels", "decompose", "quantize_aware")
"""What goes by the calls of layers, which not every configuration tells."""

_NUMBERS = (
    *("sparsity", "channels_before", "channels_after", "parameters_before", "parameters_after"),
    *("macs_before", "macs_after", "rank", "distinct_values", "dtype"),
)
"""What a plan says of a layer and the steps before may change."""


def plan(
    outline: Outline,
    spec: CompressionSpec,
    *,
    shapes: Shapes | None = None,
    has_dataset: bool = False,
    not_counted: str | None = None,
) -> Plan:
    """What a job of `spec` on this model would do.

    `shapes` are those of the data set's arrays; without them, although `has_dataset`, `not_counted` says why.
    Pointers are into the request: ``/spec/steps/0``.
    """
    planner = _Planner(outline, spec)
    planner.refuse(has_dataset)
    if outline.refused is None or (outline.kind == "keras" and outline.layers):
        planner.divide(shapes, has_dataset, not_counted)
        planner.check()
        planner.deliver()
        planner.take_steps()
    return planner.plan(shapes)


class _Planner:
    def __init__(self, outline: Outline, spec: CompressionSpec) -> None:
        self.outline = outline
        self.spec = spec
        self.delivery = Delivery(spec)
        self.problems: list[PlanProblem] = []
        self.warnings: list[ReportWarning] = []
        self.data: PlanData | None = None
        self.steps: list[PlannedStep] = []
        self.state = State(outline)
        self.cost = cost(outline)
        self._offered: set[int] = set()

    def refuse(self, has_dataset: bool) -> None:
        """What a submission refuses beforehand, and what the loader refuses."""
        faults = support(self.spec, self.outline.framework)
        unfit = unable(self.spec, self.outline.kind, self.outline.why)
        lacking = {fault.pointer for fault in faults} | {fault.pointer for fault in unfit}
        self._offered = {
            index for index in range(len(self.spec.steps)) if f"/steps/{index}/technique" not in lacking
        }
        if not has_dataset:
            faults += missing_dataset(self.spec)
        self.problems += [_in_request(fault) for fault in faults]
        self.problems += [_in_request(fault.fault(), fault.hint) for fault in unfit]
        if self.outline.kind == "graph":
            warning = remark("taken_as_graph", signature=self.outline.name, why=self.outline.why)
            self.warnings.append(warning)
        if (why := self.outline.refused) is not None:
            self.problems.append(
                PlanProblem(code=why.code, detail=why.detail, hint=why.hint, layer=why.layer)
            )

    def divide(self, shapes: Shapes | None, has_dataset: bool, not_counted: str | None) -> None:
        if not has_dataset:
            return
        try:
            if shapes is None:
                self.warnings.append(remark("samples_not_counted", why=not_counted or "it cannot be read"))
                return
            self.data = divide(shapes, self.outline, self.spec, self.warnings.append)
        except CompressionError as error:
            self._problem(error)

    def check(self) -> None:
        """All steps against the model as it is uploaded, as a job does before it computes anything."""
        for index, step in enumerate(self.spec.steps):
            if index not in self._offered:
                continue
            try:
                self._check_schedules(index)
                name = row(step.technique, self.outline.framework).plan_check
                if name is not None:
                    resolve(name)(self.outline, step, f"/steps/{index}")
            except CompressionError as error:
                self._problem(error)

    def deliver(self) -> None:
        """The outputs that the network as it was uploaded cannot be converted to: problems, or where the job
        would go on without them warnings."""
        for output in self.spec.outputs:
            if (error := blocked(self.outline, output)) is not None:
                try:
                    self.delivery.leave_out([output], error, self.warnings.append)
                except CompressionError as refused:
                    self._problem(refused)
        if has_open_sizes(self.outline) and holds_program(self.delivery.wanted):
            self.warnings.append(remark("not_looked_at", what=f"Whether LiteRT can run {OPEN_SIZES}"))

    def take_steps(self) -> None:
        """Each step on what the steps before it leave; one that cannot be done leaves it as it is."""
        for index, step in enumerate(self.spec.steps):
            entry = row(step.technique, self.outline.framework) if index in self._offered else None
            if entry is None:
                continue
            context = Context(index, self.spec, self.data)
            unknown = self.state.unknown
            try:
                self.state = _planned(entry.plan, self.state, step, context)
            except CompressionError as error:
                self._problem(error)
                continue
            self.warnings += context.warnings
            if unknown:
                context.layers = list(map(_estimated, context.layers))
            self.steps.append(self._step(context, step))

    def plan(self, shapes: Shapes | None) -> Plan:
        known = bool(self.outline.layers)
        feasible = not self.problems
        return Plan(
            feasible=feasible,
            problems=self.problems,
            warnings=self.warnings,
            spec=self.spec.model_dump(mode="json"),
            model=_model(self.outline, self.cost),
            data=self.data,
            steps=self.steps,
            before=[size_of(self.outline, output, {}, nonzero_known=True) for output in self.delivery.wanted]
            if known
            else [],
            after=[
                size_of(
                    self.state.outline,
                    output,
                    self.state.dtypes if output in self.state.formats else {},
                    integers=self.state.integers and output in self.state.formats,
                    levels=self.state.levels,
                    nonzero_known=not (self.state.guessed_zeros or self.state.guessed),
                )
                for output in self.delivery.wanted
            ]
            if feasible
            else [],
            memory_peak_bytes_estimate=memory_peak(
                self.outline, self.spec, sum(size for _, size in (shapes or {}).values())
            )
            if feasible
            else None,
        )

    def _check_schedules(self, index: int) -> None:
        step, training = self.spec.steps[index], carrier(self.spec.steps, index)
        if step.technique != "prune" or training is None or self.data is None:
            return
        total, pointer = optimiser_steps(self.data.train, training), f"/steps/{index}"
        resolve_schedule(step.schedule, total, f"{pointer}/schedule")
        for place, override in enumerate(step.overrides):
            resolve_schedule(override.schedule, total, f"{pointer}/overrides/{place}/schedule")

    def _step(self, context: Context, step: Step) -> PlannedStep:
        now = cost(self.state.outline)
        return PlannedStep(
            index=context.index,
            technique=step.technique,
            on_unsupported=getattr(step, "on_unsupported", None),
            layers=context.layers,
            details=context.details,
            cost=context.cost,
            parameters=self.state.outline.parameters,
            macs=None if now.unknown else now.total,
            estimated=["parameters", "macs"] if self.state.guessed else [],
        )

    def _problem(self, error: CompressionError) -> None:
        problem = PlanProblem(
            code=error.code,
            detail=error.detail,
            hint=error.hint,
            pointer=_pointer(error.pointer),
            layer=error.layer,
        )
        if problem not in self.problems:
            self.problems.append(problem)


def _planned(name: str | None, state: State, step: Step, context: Context) -> State:
    """The state after a step; one that nothing is known of makes all that follows an estimate."""
    unknown = state.outline.kind == "keras" and not state.outline.traced and step.technique in _BY_CALLS
    if name is None or unknown:
        context.warn("not_looked_at", what=f"What {step.technique} does")
        return replace(state, guessed=True, guessed_zeros=True, unknown=True)
    planned: State = resolve(name)(state, step, context)
    return planned


def _estimated(layer: PlannedLayer) -> PlannedLayer:
    """With every number that there is of it marked as an estimate."""
    numbers = [name for name in _NUMBERS if getattr(layer, name) is not None]
    return layer.model_copy(update={"estimated": list(dict.fromkeys([*layer.estimated, *numbers]))})


def _pointer(pointer: str | None) -> str | None:
    """Arrays of the data set are not in the request: their pointers stay as they are."""
    return pointer if pointer is None or pointer.startswith("/dataset/") else f"/spec{pointer}"


def _in_request(fault: FieldError, hint: str | None = None) -> PlanProblem:
    return PlanProblem(code=fault.code, detail=fault.detail, hint=hint, pointer=f"/spec{fault.pointer}")


def _model(outline: Outline, found: Cost) -> PlanModel:
    return PlanModel(
        format=outline.format,
        framework=outline.framework,
        keras=outline.keras,
        bytes=outline.bytes,
        parameters=outline.parameters,
        nonzero_parameters=sum(layer.nonzero for layer in outline.layers),
        macs=None if found.unknown else found.total,
        macs_unknown=sorted(found.unknown),
        macs_assumed=sorted(found.assumed),
        inputs=[None if shape is None else list(shape) for shape in outline.shapes(outline.inputs)],
        outputs=[None if shape is None else list(shape) for shape in outline.shapes(outline.outputs)],
    )
