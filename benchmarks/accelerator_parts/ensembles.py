"""Seeds of an ensemble: one batched program, in turn within one, or a Python loop."""

import dataclasses

from accelerator_parts.recorder import Recorder, clock, problem_of
from testbed.config import Config
from testbed.dynamics import Finite
from testbed.settings import override
from testbed.validation import validate

TITLE = "Ensembles: seeds batched, in turn, or in a Python loop"
WHY = (
    "A step of one network of the ensemble, on digits: vmap is one batched program, "
    "map takes one network after the other in one program, loop calls one for each."
)
SIZES = ((64, 64), (256, 64))
# In turn, a network takes the same time in any number of them.
WAYS = (("vmap", 4), ("vmap", 16), ("vmap", 64), ("map", 16), ("loop", 16))


def run(record: Recorder) -> None:
    """A row for each width, way and number of seeds."""
    sizes = ((8, 4),) if record.quick else SIZES
    ways = (("vmap", 2), ("map", 2), ("loop", 2)) if record.quick else WAYS
    for width, depth in sizes:
        config = validate(
            override(
                Config(),
                {
                    "model.width": width,
                    "model.depth": depth,
                    "data.train_size": 64 if record.quick else 512,
                    "data.test_size": 64,
                    "kernel.probes": 0,
                    "train.seeds": 1,
                },
            )
        )
        base = problem_of(config)
        examples, n_in = base.x_train.shape
        flops = 6.0 * examples * width * (n_in + depth * width + base.y_train.shape[1])
        for way, seeds in ways:

            def measure(s=seeds, way=way, flops=flops, n=width, d=depth, base=base):
                each = _each(base, s, way)
                return {
                    "width": n,
                    "depth": d,
                    "seeds": s,
                    "way": way,
                    "first call s": each[0],
                    "us a network and step": each[1] * 1e6,
                    **record.beside_floor(each[1], flops=flops, iterations=2 * d),
                }

            alone = flops * seeds / record.floor.get("highest", float("inf"))
            record.case(
                f"width {width}, depth {depth}, {seeds} seeds, {way}",
                measure,
                predicted=20 * alone,
                needed=seeds * 12.0 * examples * width * depth,
            )


def _each(base, seeds: int, way: str) -> tuple[float, float]:
    """Seconds of the first call, and of a step of one network after it."""
    alone = way == "loop"
    axis = "map" if alone else way
    problem = dataclasses.replace(base, seeds=1 if alone else seeds, seed_axis=axis)
    finite = Finite(problem)
    state = finite.start()
    calls = seeds if alone else 1

    def advance(steps: int):
        return [finite.advance(state, 0, steps) for _ in range(calls)]

    first = clock(lambda: advance(1), 0.0, 1)
    steps = max(1, min(100, int(0.3 / max(first.seconds, 1e-6))))
    took = clock(lambda: advance(steps), 0.5)
    return first.first, took.seconds / steps / seeds
