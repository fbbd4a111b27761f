"""engine.compile: the same answers, or one line where nothing can be compiled."""

import pytest
import torch
from reference import alone
from tiny import BANNED, EOS, engine, prompts, single, tiny, tokens

from r2r.errors import ConfigError


@pytest.mark.slow
def test_compiled_equals_the_reference():
    """Models whose inputs look the same, and batches of all sizes."""
    asked = prompts(8)
    for layers in (2, 3, 1):
        model = tiny("qwen3", 32, layers, layers)
        expected = [alone(model, p.tokens, p.sampling.max_new_tokens, EOS, BANNED) for p in asked]
        compiled = single(model, compile=True)
        assert tokens(compiled.generate(asked)) == expected
        assert tokens(compiled.generate(asked[:1])) == expected[:1]


@pytest.mark.slow
def test_compiling_without_a_compiler_is_one_line():
    torch._dynamo.reset()
    nothing = {"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}
    model = tiny("qwen2", 40, 2, 0)
    wanted = pytest.raises(ConfigError, match=r"^engine\.compile must be false here")
    with torch._inductor.config.patch(nothing), wanted:
        engine(model, compile=True)
    torch._dynamo.reset()
