"""What the testbed knows of each kind of model: one file a kind, named like it.

`family` gives it.  What a family does not have it says, with a reason (`NoLaw`): nobody
falls back on what another family has.
"""

import importlib

from testbed.errors import check_name
from testbed.families.family import Counts, Family, NoLaw, required
from testbed.kinds import KINDS

__all__ = ["Counts", "Family", "NoLaw", "family", "required"]


def family(kind: str) -> Family:
    """The family of a value of `model.kind`.

    Raises:
      UserError: there is none of that name.
    """
    check_name("model.kind", kind, KINDS)
    return importlib.import_module(f"testbed.families.{kind}").FAMILY
