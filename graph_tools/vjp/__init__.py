"""VJP rules, one file per operator family. Importing this package fills the table."""

from graph_tools.vjp import activations as _activations  # noqa: F401
from graph_tools.vjp import average_pooling as _average_pooling  # noqa: F401
from graph_tools.vjp import convolution as _convolution  # noqa: F401
from graph_tools.vjp import elementwise as _elementwise  # noqa: F401
from graph_tools.vjp import indexing as _indexing  # noqa: F401
from graph_tools.vjp import layer_normalization as _layer_normalization  # noqa: F401
from graph_tools.vjp import linear as _linear  # noqa: F401
from graph_tools.vjp import normalization as _normalization  # noqa: F401
from graph_tools.vjp import pooling as _pooling  # noqa: F401
from graph_tools.vjp import quantization as _quantization  # noqa: F401
from graph_tools.vjp import reduction as _reduction  # noqa: F401
from graph_tools.vjp import resize as _resize  # noqa: F401
from graph_tools.vjp import shape as _shape  # noqa: F401
from graph_tools.vjp import slicing as _slicing  # noqa: F401
