"""VJP rules, one file per operator family. Importing this package fills the table."""

from graph_tools.vjp import activations as _activations  # noqa: F401
from graph_tools.vjp import elementwise as _elementwise  # noqa: F401
from graph_tools.vjp import linear as _linear  # noqa: F401
