"""What the card can do: the rates that everything else is put beside."""

import functools

import jax
import jax.numpy as jnp

from accelerator_parts.recorder import Recorder, clock

TITLE = "What the card can do"
WHY = (
    "Rates of products of square matrices of random numbers, of a pass over memory "
    "(bytes read and written), of what the infinite kernels are made of, and of a loop."
)

# name -> (type of the operands, precision of the product)
PRODUCTS = {
    "highest": ("float32", "highest"),
    "tf32": ("float32", "TF32_TF32_F32"),
    "bf16": ("float32", "BF16_BF16_F32"),
    "default": ("float32", "default"),
    "float64": ("float64", "highest"),
    "bf16 operands": ("bfloat16", "default"),
}
LARGEST = 8192
ENOUGH_SECONDS = 0.02  # a product that takes as long fills any card


def run(record: Recorder) -> None:
    """Sets record.floor.

    Operations a second by product, "bytes" and "special" functions a second, bytes a
    second "to_host", and seconds of an iteration of a nearly empty "loop" (and
    "unrolled") and of a "call".
    """
    floor = record.results["floor"] = {}
    for name in PRODUCTS:
        row = record.case(f"matrix product, {name}", lambda n=name: _product(record, n))
        if row:
            floor[name] = row["TFLOP/s"] * 1e12
    others = {"bytes": _copy, "special": _special, "loop": _loop, "call": _call}
    others["unrolled"] = _unrolled
    if jax.default_backend() != "cpu":
        others["to_host"] = _to_host
    for name, measure in others.items():
        row = record.case(measure.__doc__ or name, lambda m=measure: m(record))
        if row:
            floor[name] = row.pop("value")
            record.write()


def _product(record: Recorder, name: str):
    dtype, precision = PRODUCTS[name]
    largest = 512 if record.quick else LARGEST
    # What is compiled for a card is tuned, for seconds: once, at a size that fills it.
    n = 256 if jax.default_backend() == "cpu" or record.quick else largest

    @jax.jit
    def multiply(a, b):
        with jax.default_matmul_precision(precision):
            return a @ b

    while True:
        keys = jax.random.split(jax.random.key(0))
        a, b = (jax.random.normal(k, (n, n), jnp.float32).astype(dtype) for k in keys)
        took = clock(functools.partial(multiply, a, b), 0.2)
        if took.seconds > ENOUGH_SECONDS or n >= largest:
            break
        n *= 2
    rate = 2 * n**3 / took.seconds / 1e12
    return {"n": n, "TFLOP/s": rate, **took.columns()}


def _numbers(record: Recorder, dtype) -> jax.Array:
    on_card = jax.default_backend() != "cpu"
    size = 2**16 if record.quick else 2**28 if on_card else 2**25
    return jax.random.normal(jax.random.key(1), (size,), dtype)


def _copy(record: Recorder):
    """a pass over memory"""
    x = _numbers(record, jnp.float32)
    took = clock(functools.partial(jax.jit(lambda x: -x), x), 0.3)
    rate = 2 * x.nbytes / took.seconds
    return {"GB/s": rate / 1e9, **took.columns(), "value": rate}


def _special(record: Recorder):
    """float64 arc tangents, with two square roots each"""
    x = jnp.abs(_numbers(record, jnp.float32)[: 2**26]).astype(jnp.float64)
    angle = jax.jit(lambda h, g: 2 * jnp.arctan2(jnp.sqrt(h), jnp.sqrt(g)))
    took = clock(functools.partial(angle, x, x[::-1]), 0.3)
    rate = x.size / took.seconds
    return {"1e9/s": rate / 1e9, **took.columns(), "value": rate}


def _unrolled(record: Recorder):
    """an iteration of such a loop, eight of them written out"""
    return _loop(record, unroll=8)


def _loop(record: Recorder, unroll: int = 1):
    """an iteration of a loop that does next to nothing"""
    count = 160 if record.quick else 8000
    x = jnp.ones((8, 8), jnp.float32)

    @jax.jit
    def run(x):
        body = lambda y, i: (y * x + i, None)
        return jax.lax.scan(
            body, x, jnp.arange(count, dtype=jnp.float32), unroll=unroll
        )[0]

    took = clock(functools.partial(run, x), 0.3)
    each = took.seconds / count
    return {"us": each * 1e6, **took.columns(), "value": each}


def _call(record: Recorder):
    """a call of a program that does next to nothing"""
    took = clock(functools.partial(jax.jit(lambda x: x + 1), jnp.ones(8)), 0.1, 200)
    return {"us": took.seconds * 1e6, **took.columns(), "value": took.seconds}


def _to_host(record: Recorder):
    """a copy from the device to the host"""
    x = _numbers(record, jnp.float32)
    bump = jax.jit(lambda x, i: x + i)
    calls = iter(range(10**6))
    alone = clock(lambda: bump(x, next(calls)), 0.2)
    # A new array every time: one that was fetched is kept on the host.
    both = clock(lambda: jax.device_get(bump(x, next(calls))), 0.5, 5)
    rate = x.nbytes / max(both.seconds - alone.seconds, 1e-9)
    return {"GB/s": rate / 1e9, **both.columns(), "value": rate}
