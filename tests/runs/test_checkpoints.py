import jax
import jax.numpy as jnp
import numpy as np
import pytest

from testbed.runs.checkpoints import Checkpoints


def state(seed):
    key = jax.random.key(seed)
    return {
        "finite": {
            "value": {"w": jax.random.normal(key, (3, 40, 40), jnp.float32)},
            "optimizer": (),
        },
        "infinite": None,
        "failed_at": jnp.full(3, -1, jnp.int32),
    }


def damage(path):
    """Flips one bit of the largest file."""
    largest = max(
        (p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)


def same(a, b):
    return all(
        jax.tree.leaves(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))
    )


def test_the_newest_state_comes_back_bit_for_bit(tmp_path):
    """Of several saves the last is restored, structure and types included."""
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 7, 20):
        checkpoints.save(step, state(step))
    step, restored = Checkpoints(tmp_path).restore(state(0))
    assert step == 20 and same(restored, state(20)) and not same(restored, state(7))
    assert jax.tree.structure(restored) == jax.tree.structure(state(0))
    assert restored["finite"]["value"]["w"].dtype == np.float32
    assert sum(p.name.isdigit() for p in tmp_path.iterdir()) == 2  # two are kept


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    """One flipped bit is noticed and said; two damaged ones leave nothing."""
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 7):
        checkpoints.save(step, state(step))
    damage(tmp_path / "7")
    with pytest.warns(UserWarning, match="checkpoint of step 7 is damaged"):
        step, restored = Checkpoints(tmp_path).restore(state(0))
    assert step == 3 and same(restored, state(3))
    damage(tmp_path / "3")
    with pytest.warns(UserWarning, match="checkpoint of step 3 is damaged"):
        assert Checkpoints(tmp_path).restore(state(0)) is None


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path):
    """Half of a file gone is noticed like a flipped bit."""
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 7):
        checkpoints.save(step, state(step))
    for path in (tmp_path / "7").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match="checkpoint of step 7 is damaged"):
        restored = Checkpoints(tmp_path).restore(state(0))
    assert restored and restored[0] == 3


def test_an_empty_folder_holds_nothing(tmp_path):
    """Nothing to restore is None."""
    assert Checkpoints(tmp_path).restore(state(0)) is None
