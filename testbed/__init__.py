"""Where, in depth and width, does a finite network leave its kernel?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.comparison import compare

__all__ = ["compare"]


def __getattr__(name: str) -> Any:
    """Imports `compare` when it is asked for: everything else stays light."""
    if name == "compare":
        from testbed.comparison import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
