"""What a GPU's graphs would have to be captured for: how many shapes a run's forwards have."""

import pytest
from tiny import prompts, routed, tiny

from r2r.engines.torch.engine import TorchEngine
from r2r.engines.torch.runner import Runner


@pytest.fixture(scope="module")
def pair():
    return tiny("qwen3", 32, 2, 0), tiny("qwen3", 48, 3, 1)


@pytest.mark.parametrize(("batch", "most"), [(1, (12, 20)), (8, (20, 40))])
def test_a_thousand_tokens_take_few_shapes(pair, batch, most, monkeypatch):
    """All of a forward but its attention works on the tokens that are fed, of all requests in one
    row. Attention sees as much of the text as there is, another length at each step: it would stay
    outside of what is captured, as in SGLang's graphs of pieces."""
    generator = routed(pair, 0.7, max_batch=batch)
    slm, llm = generator.slm, generator.llm
    assert isinstance(slm, TorchEngine) and isinstance(llm, TorchEngine)
    fed: dict[Runner, set[int]] = {slm.runner: set(), llm.runner: set()}
    forward = Runner.hidden

    def counted(runner, ids, layout):
        fed[runner].add(len(ids))
        return forward(runner, ids, layout)

    monkeypatch.setattr(Runner, "hidden", counted)
    traces = generator.generate(prompts(11, budget=120))
    assert sum(len(trace.steps) for trace in traces) > 1000
    small, large = fed.values()
    assert len(small) <= most[0] and len(large) <= most[1]  # the prompts' lengths among them
    # Padded to powers of two, as engines capture them:
    assert len({(tokens - 1).bit_length() for tokens in small | large}) <= 8
