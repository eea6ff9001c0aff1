"""What scripts/boundary.py does, and what a person sees of it."""

import argparse

from testbed.reports.boundary import law_text, write_boundary
from testbed.runs.console import Console
from testbed.sweeps.boundary import describe, find, plan_of
from testbed.sweeps.gather import MEASURES


def run(options: argparse.Namespace) -> None:
    """Searches the boundary that the arguments describe.

    Raises:
      UserError: arguments that cannot be honoured.
      RunError: a folder that cannot be written.
    """
    plan = plan_of(
        options.networks,
        options.widths,
        options.depths,
        options.set,
        measure=options.measure,
        threshold=options.threshold,
        seeds=options.seeds,
        most_seeds=options.most_seeds,
    )
    console = Console()
    runs, seconds = plan.cost()
    console.print(
        f"Boundary d*(n): where {MEASURES[plan.measure]} passes {plan.threshold:g}\n"
        f"{', '.join(plan.networks)}; widths {', '.join(map(str, plan.widths))}; "
        f"{len(plan.depths)} depths from {plan.depths[0]} to {plan.depths[-1]}\n"
        f"Expected: about {runs} runs of {plan.seeds} networks, "
        f"{seconds / 60:.0f} minutes on two CPU cores (to a factor of 2); "
        "finished runs are reused\n"
        f"Recording in {options.dir}\n"
    )
    if options.dry:
        return
    found = find(plan, options.dir, options.reuse, console)
    page = write_boundary(plan, found, options.dir)
    for one in found:
        for width, boundary in zip(one.widths, one.boundaries, strict=True):
            console.print(f"{one.name}, width {width}: {describe(boundary)}")
        console.print(f"{one.name}: {law_text(one)}")
    console.print(f"Report: {page}")
