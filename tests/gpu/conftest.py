"""The one place that decides whether there is a GPU."""

from __future__ import annotations

import pytest

from graph_tools.errors import ProviderUnavailable
from service.runtime.home import Runtime
from service.runtime.providers import Provider


@pytest.fixture(scope="session")
def cuda_runtime() -> Runtime:
    """A runtime on the GPU; skips with the reason where there is none."""
    try:
        return Runtime("cuda")
    except ProviderUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cuda(cuda_runtime: Runtime) -> Provider:
    return cuda_runtime.provider
