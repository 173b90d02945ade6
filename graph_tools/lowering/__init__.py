"""Bodies in standard operators, one file per family; importing the package fills the table."""

from __future__ import annotations

from graph_tools.lowering import attention as _attention  # noqa: F401
from graph_tools.lowering import block_quantized as _block_quantized  # noqa: F401
from graph_tools.lowering import causal_conv as _causal_conv  # noqa: F401
from graph_tools.lowering import contrib_attention as _contrib_attention  # noqa: F401
from graph_tools.lowering import fused as _fused  # noqa: F401
from graph_tools.lowering import group_query as _group_query  # noqa: F401
from graph_tools.lowering import nchwc as _nchwc  # noqa: F401
from graph_tools.lowering import quantized as _quantized  # noqa: F401
from graph_tools.lowering import quantized_recurrent as _quantized_recurrent  # noqa: F401
from graph_tools.lowering import recurrent as _recurrent  # noqa: F401
from graph_tools.lowering import renamed as _renamed  # noqa: F401
from graph_tools.lowering import rotary as _rotary  # noqa: F401
from graph_tools.lowering import signal as _signal  # noqa: F401
from graph_tools.lowering import transformer as _transformer  # noqa: F401
from graph_tools.lowering import windows as _windows  # noqa: F401
