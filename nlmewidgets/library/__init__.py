"""Ready-made structures and residual error models.

``search("oral 2 compartments")`` finds a structure, ``describe("oral_2cpt")`` shows it, ``demo("oral_2cpt")``
returns a model and data, and ``oral_2cpt(ka=..., residual=...)`` makes the model.  Adding a structure is one
function in the file of its family.
"""

from __future__ import annotations

from nlmewidgets.library.demo import demo
from nlmewidgets.library.diagram import diagram
from nlmewidgets.library.residual import RESIDUALS
from nlmewidgets.library.search import describe, search
from nlmewidgets.library.structure import LIBRARY, Structure, structure, structure_of

from nlmewidgets.library.pk_iv import *  # isort: skip  # noqa: F403  the order of the library
from nlmewidgets.library.pk_oral import *  # isort: skip  # noqa: F403
from nlmewidgets.library.pk_nonlinear import *  # isort: skip  # noqa: F403
from nlmewidgets.library.pd import *  # isort: skip  # noqa: F403
from nlmewidgets.library.growth import *  # isort: skip  # noqa: F403
from nlmewidgets.library.neuro import *  # isort: skip  # noqa: F403
from nlmewidgets.library.counts import *  # isort: skip  # noqa: F403

__all__ = ["LIBRARY", "RESIDUALS", "Structure", "demo", "describe", "diagram", "search", "structure", "structure_of"]
