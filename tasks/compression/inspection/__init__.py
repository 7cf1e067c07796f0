"""Inspections: what is in a model file, and what can be done to it. No framework, no worker, no queue.

inspect(outline)  ->  featherweight.inspection.Inspection

parts        layers and totals
memory       activations alive at the same time
techniques   each technique, asked of its planner
formats      each output format
"""

from __future__ import annotations

from tasks.compression.inspection.inspector import inspect, unreadable

__all__ = ["inspect", "unreadable"]
