"""Whether the hub answers, and reading of what lies here where it does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

HUB_S = 3.0  # for the hub to answer


def hub_answers() -> bool:
    """Whether files can be fetched; False too where HF_HUB_OFFLINE is set."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=HUB_S)
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        return False
    return True


@contextlib.contextmanager
def offline_without_hub() -> Iterator[None]:
    """Where the hub does not answer its libraries look into their caches at once, as with
    HF_HUB_OFFLINE=1, in the place of five tries over half a minute."""
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    if not hub_answers():
        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before
