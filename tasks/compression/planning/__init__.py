"""Plans: what a job would do to a model, told from its outline. No framework, no worker, no queue.

    plan(outline, spec)  ->  featherweight.plan.Plan

    state      what goes from step to step
    division   how the data set would be divided
    costs      optimiser steps, MACs, memory
    sizes      bytes of the outputs
    outputs    those that a network cannot be converted to

What a technique does is told by the function its row of the catalogue names as `plan`.
"""

from __future__ import annotations

from tasks.compression.planning.planner import plan

__all__ = ["plan"]
