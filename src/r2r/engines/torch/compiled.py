"""A decoder by torch.compile, so that a call costs little beside its kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch


def compiled(decoder: Any, device: torch.device) -> Any:
    """The decoder by torch.compile. Only its inputs ever change, so nothing else of it is looked at
    again at each call; what is compiled for another model is kept apart. On a CPU the code between
    the kernels is C++ too: with a small model it takes as long as they do."""

    def inputs(guards: Sequence[Any]) -> list[bool]:
        return [
            guard.guard_type in ("TENSOR_MATCH", "SHAPE_ENV")
            and not isinstance(guard.value, torch.nn.Parameter)
            for guard in guards
        ]

    options: Any = {"guard_filter_fn": inputs, "cpp_wrapper": device.type == "cpu"}
    with_cache: Any = torch.compile  # its overloads lack isolate_recompiles
    return with_cache(decoder, dynamic=True, isolate_recompiles=True, options=options)


def constants() -> contextlib.AbstractContextManager[None]:
    """What is compiled within takes a model's numbers, such as a norm's epsilon, as they are: as
    inputs they cost a tensor each at every call."""
    import torch._dynamo.config as settings  # a second to import

    return settings.patch(specialize_float=True)
