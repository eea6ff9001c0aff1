"""What every law on the line can do; scipy's frozen distributions can."""

from typing import Any, Protocol


class Law(Protocol):
    """A distribution on the line, or an array of them that broadcasts."""

    def mean(self) -> Any: ...  # noqa: D102
    def var(self) -> Any: ...  # noqa: D102
    def std(self) -> Any: ...  # noqa: D102
    def pdf(self, x: Any, /) -> Any: ...  # noqa: D102
    def cdf(self, x: Any, /) -> Any: ...  # noqa: D102
    def ppf(self, q: Any, /) -> Any: ...  # noqa: D102
    def rvs(self, size: Any = ..., random_state: Any = ...) -> Any: ...  # noqa: D102
