"""Pairs of every family that the contracts hold for."""

import pytest
from tiny import SLOW, nano, tiny


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama", *SLOW])
def pair(request):
    if request.param == "nano":
        return nano("slm"), nano("llm")
    return tiny(request.param, 32, 2, 0), tiny(request.param, 48, 3, 1)
