"""VJP rules, one file per operator family. Importing this package fills the table."""

from graph_tools.vjp import elementwise as _elementwise  # noqa: F401
