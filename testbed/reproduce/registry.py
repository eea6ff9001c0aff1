"""The reproductions by name, and how one is run and kept."""

import dataclasses
import importlib
import json
import time
import warnings
from pathlib import Path
from types import ModuleType

from testbed.errors import check_name
from testbed.reports.toolkit import Caption, as_png
from testbed.reports.toolkit.page import report_files
from testbed.reports.toolkit.style import in_style
from testbed.reproduce.claim import Claim
from testbed.runs import digests, parsing
from testbed.runs.parsing import Damaged

NAMES = (
    "log_gaussian_histogram",
    "mean_variance",
    "hypoactivation",
    "interlayer_correlation",
    "ks_map",
    "fixed_width_log_normal",
    "ornstein_uhlenbeck",
    "regime_change",
    "quasi_gbm_drift",
    "depth_then_width",
    "covariance_error",
    "diffusion_moments",
    "jacobian_diffusion",
    "ntk_dispersion",
)


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """A reproduction that has run.

    Attributes:
      name: of its file in `testbed.reproduce.figures`.
      title: first line of its docstring.
      header: the rest: question, source, parameters, time.
      caption: what is shown, what was expected, and what to look for.
      claims: decided.
      seconds: wall time.
      quick: whether it was the small variant.
      png: the picture.
    """

    name: str
    title: str
    header: dict[str, str]
    caption: Caption
    claims: tuple[Claim, ...]
    seconds: float
    quick: bool
    png: bytes

    @property
    def passed(self) -> bool:
        """Whether every claim holds."""
        return all(claim.passed for claim in self.claims)


REMEDY = "choose another --dir"  # where a folder cannot be written
FIELDS = ("Question", "Source", "Parameters", "Quick", "Expected", "Time")


def header_of(name: str) -> tuple[str, dict[str, str]]:
    """Title and header fields of the reproduction called `name`.

    Raises:
      UserError: no such reproduction.
    """
    text = _module(name).__doc__ or ""
    title, _, rest = text.strip().partition("\n")
    header, current = {}, ""
    for line in rest.strip().splitlines():
        word, colon, after = line.partition(":")
        if colon and word in FIELDS:
            current, line = word, after
        if current:
            header[current] = f"{header.get(current, '')} {line.strip()}".strip()
    return title, header


def reproduce(name: str, quick: bool, folder: Path) -> Reproduction:
    """Runs the reproduction called `name` and keeps it in folder/name.

    Kept: figure.png, and claims.json with header, caption and what was decided.

    Raises:
      UserError: no such reproduction.
      RunError: the folder cannot be written.
    """
    title, header = header_of(name)
    small = header.pop("Quick")
    if quick:  # what it does not name is as in the full variant
        full = header["Parameters"].removesuffix(".")
        header["Parameters"] = f"{small} (--quick; otherwise: {full}.)"
    began = time.perf_counter()
    with in_style():
        result = _module(name).reproduce(quick)
    png = as_png(result.figure)
    done = Reproduction(
        name,
        title,
        header,
        dataclasses.replace(result.caption, expected=header.pop("Expected")),
        tuple(result.claims),
        time.perf_counter() - began,
        quick,
        png,
    )
    _keep(done, folder / name)
    return done


def kept(folder: Path) -> list[Reproduction]:
    """What has been reproduced in `folder`, now or before, in the order of `NAMES`."""
    found = []
    for name in NAMES:
        file = folder / name / "claims.json"
        try:
            record = digests.read_json(file)
            if record is None:
                continue
            png = parsing.read_bytes(folder / name / "figure.png")
            if record.pop("figure", None) not in (None, digests.of_bytes(png)):
                raise Damaged(folder / name / "figure.png", "its digest does not match")
            del record["passed"]
            record["claims"] = tuple(Claim(**claim) for claim in record["claims"])
            if isinstance(record["caption"], str):  # of an earlier version
                expected = record["header"].pop("Expected", "")
                record["caption"] = {"shown": record["caption"], "expected": expected}
            record["caption"] = Caption(**record["caption"])
            found.append(Reproduction(**record, png=png))
        except (OSError, LookupError, TypeError):
            continue  # of another version
        except Damaged as damage:
            warnings.warn(f"{damage}; it is left out of the page", stacklevel=2)
    return found


def _keep(done: Reproduction, path: Path) -> None:
    record = dataclasses.asdict(done)
    del record["png"]
    record |= {"passed": done.passed, "figure": digests.of_bytes(done.png)}
    text = json.dumps(digests.sealed(record), indent=2) + "\n"
    with report_files(path, REMEDY) as files:
        files.write(path / "figure.png", done.png)
        files.write(path / "claims.json", text.encode())


def _module(name: str) -> ModuleType:
    check_name("name", name, (*NAMES, "all"))
    return importlib.import_module(f"testbed.reproduce.figures.{name}")
