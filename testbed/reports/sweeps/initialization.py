"""Simulations beside their laws: which law is nearer, over depth and width."""

from collections.abc import Sequence

from testbed.reports import toolkit
from testbed.reports.sweeps.groups import REPLICATES, SIZES, label_of, split
from testbed.reports.toolkit import style
from testbed.sweeps.gather import Table, text, varied_in

QUANTITIES = {
    "log_norm": "log(|z_d|^2 / |z_0|^2)",
    "log_output": "log|f|^2",
}
_MARKS = "os^Dv*"


def kinds(laws: Table) -> list[tuple[str, Table]]:
    """(label, part) by every varied setting but sizes and seeds."""
    keys = [c for c in varied_in(laws) if c not in (*SIZES, *REPLICATES)]
    return [(label_of(settings), part) for settings, part in split(laws, keys)]


def pictures(laws: Table) -> list[toolkit.Drawing]:
    """A figure a quantity: distance from each law, and variance, over d/n."""
    if laws.empty:
        return []
    return [
        _draw(laws[laws["quantity"] == name], name, title)
        for name, title in QUANTITIES.items()
        if (laws["quantity"] == name).any()
    ]


def _draw(laws: Table, name: str, title: str) -> toolkit.Drawing:
    parts = kinds(laws)[:6]
    figure, axes = toolkit.blank(2, len(parts), 6.6)
    ratios = sorted(set(laws["depth_over_width"]))
    widths = sorted(set(laws["model.width"]))
    names = [law for law in style.LAWS if (laws["law"] == law).any()]
    for column, (label, part) in enumerate(parts):
        top, bottom = axes[:, column]
        for width, mark in zip(widths, _MARKS * len(widths), strict=False):
            at = part[part["model.width"] == width].sort_values("depth_over_width")
            for law in names:
                one = at[at["law"] == law]
                x = one["depth_over_width"].to_numpy(float)
                kind = style.LAWS[law] | {"marker": mark, "markersize": 5}
                top.plot(x, one["ks"].to_numpy(float), **kind)
                kind |= {"marker": "_", "markersize": 12, "alpha": 0.6}
                bottom.plot(x, one["law_var"].to_numpy(float), **kind)
            one = at[at["law"] == names[0]]
            error = 1.96 * one["var_se"].to_numpy(float)
            bottom.errorbar(
                one["depth_over_width"].to_numpy(float), one["var"].to_numpy(float),
                error, fmt=mark, color=style.INK, markersize=4, linewidth=1,
            )  # fmt: skip
        top.axhline(part["ks_noise"].max(), color=style.FAINT, linewidth=1)
        top.set(title=label, ylabel="KS distance from the law" if column == 0 else "")
        bottom.set_ylabel("variance over networks" if column == 0 else "")
        for ax in (top, bottom):
            ax.set_xlabel("d/n")
            toolkit.log_axis(ax.xaxis, ax.yaxis)
            if len(ratios) <= 8:
                toolkit.mark(ax.xaxis, [float(text(r)) for r in ratios])
    _legend(figure, axes[0, 0], names, widths)
    caption = toolkit.Caption(
        f"{title}. Top: distance of the measured distribution function from that of "
        "each law, 0 to 1; below the grey line it is within the noise of as many "
        "networks. Bottom: the measured variance (black, 95 %) and what each law has.",
        "The log-Gaussian law holds up to corrections of order 1/n at every d/n; the "
        "Gaussian one only as d/n goes to 0.",
        "The law that stays near as d/n grows.",
    )
    return toolkit.Drawing(
        f"laws-{name}", f"At initialization: {title}", caption, figure
    )


def _legend(figure, ax, names: Sequence[str], widths: Sequence[int]) -> None:
    for law in names:
        ax.plot([], [], label=law, **style.LAWS[law])
    for width, mark in zip(widths, _MARKS * len(widths), strict=False):
        ax.plot([], [], mark, color=style.INK, label=f"n = {width}")
    toolkit.legend_below(figure, ax)


def table_rows(laws: Table) -> list[list[str]]:
    """One row a simulation: settings, moments with errors, distances, the verdict."""
    rows = []
    varied = varied_in(laws)
    keys = ["run", "quantity"]
    for (_, quantity), part in laws.groupby(keys, sort=False):
        first = part.iloc[0]
        near = part[part["nearest"]]
        nearest = str(near.iloc[0]["law"]) if len(near) else "-"
        rows.append(
            [
                *(text(first[name]) for name in varied),
                QUANTITIES.get(str(quantity), str(quantity)),
                f"{first['mean']:.4f} ± {first['mean_se']:.4f}",
                f"{first['var']:.4f} ± {first['var_se']:.4f}",
                "; ".join(f"{r['law']} {r['ks']:.3g}" for _, r in part.iterrows()),
                f"{first['ks_noise']:.2g}",
                nearest if first["decided"] else f"{nearest}, open",
            ]
        )
    return rows


def table_header(laws: Table) -> list[str]:
    """Names of the columns of `table_rows`."""
    names = [name.rpartition(".")[2] for name in varied_in(laws)]
    return [*names, "quantity", "mean", "variance", "KS distance", "noise", "nearest"]


def reading(laws: Table) -> str:
    """How often each law is nearest, and within noise, of the hidden vector's norm."""
    if laws.empty:
        return ""
    norms = laws[laws["quantity"] == "log_norm"]
    said = [
        f"{law}: nearest in {int(part['nearest'].sum())} of {len(part)}, within noise "
        f"in {int((part['ks'] <= part['ks_noise']).sum())}"
        for law, part in norms.groupby("law")
    ]
    return "Laws of the log-norm at initialization: " + "; ".join(said)
