"""The reproductions by name, and how one is run and kept."""

import dataclasses
import importlib
import io
import json
import time
import warnings
from pathlib import Path
from types import ModuleType

from testbed.errors import RunError, check_name
from testbed.files import together
from testbed.reports.style import in_style
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
      header: the rest: question, source, parameters, expected result, time.
      caption: what is shown.
      claims: decided.
      seconds: wall time.
      quick: whether it was the small variant.
      png: the picture.
    """

    name: str
    title: str
    header: dict[str, str]
    caption: str
    claims: tuple[Claim, ...]
    seconds: float
    quick: bool
    png: bytes

    @property
    def passed(self) -> bool:
        """Whether every claim holds."""
        return all(claim.passed for claim in self.claims)


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    title, header = header_of(name)
    small = header.pop("Quick")
    if quick:  # what it does not name is as in the full variant
        full = header["Parameters"].removesuffix(".")
        header["Parameters"] = f"{small} (--quick; otherwise: {full}.)"
    began = time.perf_counter()
    with in_style():
        result = _module(name).reproduce(quick)
        png = io.BytesIO()
        FigureCanvasAgg(result.figure).print_png(png)
    done = Reproduction(
        name,
        title,
        header,
        result.caption,
        tuple(result.claims),
        time.perf_counter() - began,
        quick,
        png.getvalue(),
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
            claims = tuple(Claim(**claim) for claim in record.pop("claims"))
            found.append(Reproduction(**record, claims=claims, png=png))
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
    try:
        with together() as files:
            files.write(path / "figure.png", done.png)
            files.write(path / "claims.json", text.encode())
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); choose another --dir"
        ) from None


def _module(name: str) -> ModuleType:
    check_name("name", name, (*NAMES, "all"))
    return importlib.import_module(f"testbed.reproduce.figures.{name}")
