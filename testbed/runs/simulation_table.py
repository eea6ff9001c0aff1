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
    for title, header, rows in rows_of(summary):
        table = Table(title=title, title_justify="left")
        for i, name in enumerate(header):
            table.add_column(name, justify="right" if i else "left", no_wrap=i == 1)
        for row in rows:
            table.add_row(*row)
        yield table
    if summary["dead"]:
        yield (
            f"{summary['dead']} networks died (all units of a layer off); the numbers "
            "are those of the others"
        )


def rows_of(
    summary: dict[str, Any],
) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of each table."""
    for name, found in summary["quantities"].items():
        header = ["", "measured", *(t for law in found["laws"] for t in (law, "z"))]
        yield TITLES[name], header, _quantity(found)
    layer = summary["hypoactivation"]["active_fraction"]["layer"]
    title = f"Hypoactivation at layer {layer}, in units of 1/n"
    yield title, ["", "measured", "theory"], _active(summary)


def _quantity(found: dict[str, Any]) -> list[list[str]]:
    laws, rows = found["laws"], []
    for label, key in (("mean", "mean"), ("variance", "var")):
        cells = [label, f"{found[key]:.4f} +- {found[f'{key}_se']:.4f}"]
        for law in laws.values():
            cells += [f"{law[key]:.4f}", f"{law[f'{key}_z']:+.1f}"]
        rows.append(cells)
    noise = next(iter(laws.values()))["ks_noise"]
    cells = ["KS distance", f"noise {noise:.4f}"]
    for law in laws.values():
        cells += [f"{law['ks']:.4f}", ""]
    return [*rows, cells]


def _active(summary: dict[str, Any]) -> list[list[str]]:
    width, rows = summary["width"], []
    for label, key in (
        ("1/2 - share of active units", "active_fraction"),
        ("1/2 - |phi(z)|^2 / |z|^2", "activation_ratio"),
    ):
        seen = summary["hypoactivation"][key]
        missing = width * (0.5 - seen["mean"])
        theory = width * (0.5 - seen["law"])
        error = width * seen["mean_se"]
        rows.append([label, f"{missing:.4f} +- {error:.4f}", f"{theory:.4f}"])
    return rows
