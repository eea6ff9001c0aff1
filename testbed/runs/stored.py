"""What a folder's config.json says, and which configs may go on from it."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from testbed.errors import UserError
from testbed.kinds.branches import BranchConfig
from testbed.kinds.common import ModelConfig
from testbed.runs import digests
from testbed.runs.parsing import Damaged
from testbed.settings import flatten, lacking, override, without_lacking

C = TypeVar("C")
STEPS, EARLIER = "train.steps", "measure.earlier_steps"
# What does not decide a run's numbers.
_NOT_IDENTITY = ("run.", "wandb.", "data.data_dir", "data.manual_dir")
# Every kind had them once, and they are in the digests of runs from that time.
_ONCE_COMMON = {
    f"model.{field.name}": field.default
    for field in dataclasses.fields(BranchConfig)
    if field.name not in {common.name for common in dataclasses.fields(ModelConfig)}
}
_CHOOSE = "choose another folder, or give the settings of that run"


def identity(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide a run's numbers, to the last bit."""
    kept = {
        k: v
        for k, v in (_ONCE_COMMON | dict(flat)).items()
        if k == "run.seed_axis" or not k.startswith(_NOT_IDENTITY)
    }
    if not kept.get(EARLIER):  # a run that was never extended has the name it had
        kept.pop(EARLIER, None)
    return json.loads(json.dumps(kept))


def fingerprint(config: Any, before: Mapping[str, Any] | None = None) -> str:
    """Digest of the settings that an extended run shares with what it was before.

    Args:
      config: of the run.
      before: what `without_place` has of its folder.
    """
    shared = identity({**flatten(config), **(before or {})})
    shared.pop(STEPS, None)
    shared.pop(EARLIER, None)
    return digests.of_json(shared)


def read_config(path: Path, kind: type[C]) -> C:
    """The config of the run in the folder `path`; what it lacks is as by default.

    Raises:
      UserError: config.json is damaged, or of another kind of run or version.
    """
    try:
        flat = digests.read_json(path / "config.json") or {}
        return override(kind(), without_lacking(kind(), flat))
    except Damaged as damage:
        rule = f"holds a damaged config.json: {damage.reason}"
        remedy = "put the right one there, or choose another folder"
        raise UserError("run.dir", path, rule, remedy) from None
    except UserError as error:
        rule = f"holds a config.json that cannot be read here ({error})"
        raise UserError("run.dir", path, rule, "choose another folder") from None


def without_place(path: Path, config: Any) -> dict[str, Any]:
    """Settings of config.json that the kind of model had no use for, and now lacks.

    They stay in the file: digests of what was recorded have them.
    """
    flat = digests.read_json(path / "config.json") or {}
    return {name: flat[name] for name in lacking(config, flat)}


def going_on(path: Path, stored: C, given: Mapping[str, Any], check: Callable) -> C:
    """The stored config with what may differ from it as it is given.

    That are `run.*`, `wandb.*`, where data lies, and a larger `train.steps`, which
    extends the run.

    Args:
      path: of the run's folder.
      stored: its config.
      given: {dotted name: value}, of the settings that were given.
      check: completes a config, and refuses a wrong one.

    Raises:
      UserError: another setting does not agree with the stored one.
    """
    base = stored
    if "model.ratio" in given and "model.depth" not in given:
        base = override(base, {"model.depth": None})
    base = override(base, given)
    _check_longer(path, flatten(stored), flatten(base))
    wanted = extended(stored, check(base))
    check_same(path, stored, wanted)
    return wanted


def extended(stored: C, wanted: C) -> C:
    """`wanted`, with the ends that `stored` had, and its last if it goes beyond."""
    then, now = flatten(stored), flatten(wanted)
    if STEPS not in now or now[EARLIER] not in ((), then[EARLIER]):
        return wanted
    last = (then[STEPS],) if now[STEPS] > then[STEPS] else ()
    ends = (*then[EARLIER], *last)
    measure = dataclasses.replace(wanted.measure, earlier_steps=ends)  # pyright: ignore
    return dataclasses.replace(wanted, measure=measure)  # pyright: ignore


def beyond(config: C) -> C:
    """A config that knows where its folder's run ended, if it goes beyond that."""
    run = config.run  # pyright: ignore[reportAttributeAccessIssue]
    path = Path(run.dir)
    if not (run.resume and run.dir and (path / "config.json").exists()):
        return config
    return extended(read_config(path, type(config)), config)


def extends(stored: Any, wanted: Any) -> bool:
    """Whether `wanted` goes on beyond the end of `stored`."""
    then, now = flatten(stored), flatten(wanted)
    ends = (*then.get(EARLIER, ()), then.get(STEPS))
    return now.get(EARLIER) == ends and now[STEPS] > then[STEPS]


def check_same(path: Path, stored: Any, wanted: Any) -> None:
    """Raises UserError if a run of `wanted` cannot go on from one of `stored`."""
    then, now = identity(flatten(stored)), identity(flatten(wanted))
    _check_longer(path, then, now)
    free = (STEPS, EARLIER) if extends(stored, wanted) else ()
    for name in sorted({*then, *now}):
        if name not in free and then.get(name) != now.get(name):
            rule = (
                f"belongs to another config: {name} is {then.get(name)} there and "
                f"{now.get(name)} here"
            )
            raise UserError("run.dir", path, rule, _CHOOSE)


def _check_longer(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if STEPS in then and 1 <= now[STEPS] < then[STEPS]:
        rule = f"was run to {STEPS}={then[STEPS]}, and {now[STEPS]} is asked for"
        raise UserError("run.dir", path, rule, "a run can only be made longer")


def newest(root: Path, config: Any) -> Path | None:
    """The newest run folder below `root` whose config is this one."""
    wanted = identity(flatten(config))
    found = []
    for path in root.glob("*/config.json"):
        try:
            stored = read_config(path.parent, type(config))
            if identity(flatten(stored)) == wanted:
                found.append((path.stat().st_mtime, path.parent))
        except (UserError, OSError):
            continue
    return max(found)[1] if found else None


def check_sizes(path: Path, flat: Mapping[str, Any]) -> None:
    """Raises `Damaged` for a config whose sizes are none: nothing could be drawn."""
    ours = "network.name" not in flat  # a comparison's network has no such sizes
    sizes = ("model.width", "model.depth") if ours else ()
    for name in (*sizes, "train.seeds", "samples"):
        least = 3 if name == "samples" else 1
        value = flat.get(name, least)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < least or name not in flat and name.startswith("model."):
            reason = f"{name} is {flat.get(name, 'missing')}"[:60]
            raise Damaged(path / "config.json", reason)
