"""VJP rules, one file per operator family. Importing this package fills the table."""

from graph_tools.vjp import activations as _activations  # noqa: F401
from graph_tools.vjp import average_pooling as _average_pooling  # noqa: F401
from graph_tools.vjp import contributed as _contributed  # noqa: F401
from graph_tools.vjp import control_flow as _control_flow  # noqa: F401
from graph_tools.vjp import convolution as _convolution  # noqa: F401
from graph_tools.vjp import deformable as _deformable  # noqa: F401
from graph_tools.vjp import elementwise as _elementwise  # noqa: F401
from graph_tools.vjp import grid_sample as _grid_sample  # noqa: F401
from graph_tools.vjp import indexing as _indexing  # noqa: F401
from graph_tools.vjp import integer_products as _integer_products  # noqa: F401
from graph_tools.vjp import layer_normalization as _layer_normalization  # noqa: F401
from graph_tools.vjp import linear as _linear  # noqa: F401
from graph_tools.vjp import loop as _loop  # noqa: F401
from graph_tools.vjp import normalization as _normalization  # noqa: F401
from graph_tools.vjp import patches as _patches  # noqa: F401
from graph_tools.vjp import pooling as _pooling  # noqa: F401
from graph_tools.vjp import quantization as _quantization  # noqa: F401
from graph_tools.vjp import recurrent as _recurrent  # noqa: F401
from graph_tools.vjp import reduction as _reduction  # noqa: F401
from graph_tools.vjp import resize as _resize  # noqa: F401
from graph_tools.vjp import roi as _roi  # noqa: F401
from graph_tools.vjp import scan as _scan  # noqa: F401
from graph_tools.vjp import sequence as _sequence  # noqa: F401
from graph_tools.vjp import shape as _shape  # noqa: F401
from graph_tools.vjp import signal as _signal  # noqa: F401
from graph_tools.vjp import slicing as _slicing  # noqa: F401
