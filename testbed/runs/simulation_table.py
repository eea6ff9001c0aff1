"""The tables that a simulation prints."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

TITLES = {
    "log_norm": "log(|z_d|^2 / |z_0|^2), the hidden vector",
    "log_output": "log|f|^2, the outputs",
}


def tables(summary: dict[str, Any]) -> Iterator[Table | str]:
    """One table a quantity, then the active units."""
    for name, found in summary["quantities"].items():
        yield _quantity(TITLES[name], found)
    yield _active(summary)
    if summary["dead"]:
        yield (
            f"{summary['dead']} networks died (all units of a layer off); the numbers "
            "are those of the others"
        )


def _quantity(title: str, found: dict[str, Any]) -> Table:
    laws = found["laws"]
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("measured", justify="right", no_wrap=True)
    for law in laws:
        table.add_column(law, justify="right", no_wrap=True)
        table.add_column("z", justify="right")
    for label, key in (("mean", "mean"), ("variance", "var")):
        cells = [f"{found[key]:.4f} +- {found[f'{key}_se']:.4f}"]
        for law in laws.values():
            cells += [f"{law[key]:.4f}", f"{law[f'{key}_z']:+.1f}"]
        table.add_row(label, *cells)
    noise = next(iter(laws.values()))["ks_noise"]
    cells = [f"noise {noise:.4f}"]
    for law in laws.values():
        cells += [f"{law['ks']:.4f}", ""]
    table.add_row("KS distance", *cells)
    return table


def _active(summary: dict[str, Any]) -> Table:
    width = summary["width"]
    found = summary["hypoactivation"]
    layer = found["active_fraction"]["layer"]
    table = Table(
        title=f"Hypoactivation at layer {layer}, in units of 1/n", title_justify="left"
    )
    for name in ("", "measured", "theory"):
        table.add_column(name, justify="right" if name else "left")
    for label, key in (
        ("1/2 - share of active units", "active_fraction"),
        ("1/2 - |phi(z)|^2 / |z|^2", "activation_ratio"),
    ):
        seen = found[key]
        missing = width * (0.5 - seen["mean"])
        theory = width * (0.5 - seen["law"])
        error = width * seen["mean_se"]
        table.add_row(label, f"{missing:.4f} +- {error:.4f}", f"{theory:.4f}")
    return table
