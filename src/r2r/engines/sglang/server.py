"""SGLang server processes: the command that starts one, waiting for it, watching it, ending it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import random
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from r2r.config import ServerConfig
from r2r.errors import EngineFailed
from r2r.pairs import Source

log = logging.getLogger(__name__)
FAILURES = (aiohttp.ClientError, TimeoutError, ConnectionError)
POLL_S = 0.5
ANSWER_S = 5.0  # for one answer of a server that is up
STOP_S = 10.0  # for a server to end by itself
PR_SET_PDEATHSIG = 1
IN_USE = "address already in use"
START_IT = "; docs/sglang.md says how to start it"
# Below what the kernel gives to those who ask for any port, and SGLang's own choice (22000 up).
PORTS = range(10000, 22000)
KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Server:
    """A server at ``url``; ``key`` is the part of the config that describes it.

    ``patience``: seconds until it must answer. ``command`` and ``log``: where it is one of ours,
    started when it is first waited for, and not before ``after`` answers.
    """

    def __init__(
        self,
        *,
        key: str,
        url: str,
        patience: float,
        command: Sequence[str] = (),
        log: Path | None = None,
        after: Server | None = None,
    ):
        self.key, self.url, self.patience = key, url.rstrip("/"), patience
        self.command, self.log, self.after = command, log, after
        self.process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"{self.key} (SGLang at {self.url})"

    def start(self) -> None:
        """Start the process, once; it does not outlive this one, however that ends."""
        if self.process is not None or self.log is None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # GPUs that do not hold the same beside it are what the shipped arrangement means.
        unequal = {"SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK": "0"}
        with self.log.open("wb") as file:
            file.write(f"{shlex.join(self.command)}\n".encode())
            file.flush()
            self.process = subprocess.Popen(
                self.command,
                env=os.environ | unequal,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    async def ready(self) -> None:
        """Wait until it answers. Raises EngineFailed where it ends instead, or takes too long."""
        if self.after is not None:
            await self.after.ready()
        self.start()
        until, silent = time.monotonic() + self.patience, ""
        # Its port may be another's that says nothing: the process is looked at in between.
        timeout = aiohttp.ClientTimeout(total=min(self.patience, ANSWER_S))
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                try:
                    async with session.get(f"{self.url}/model_info") as reply:
                        if reply.ok:
                            return
                        why = f"HTTP {reply.status}"
                except FAILURES as error:
                    why = told(error)
                self.check()
                if time.monotonic() > until:
                    line = f"{self} did not answer within {self.patience:g} s"
                    raise EngineFailed(line + (self._where() or f": {why}{START_IT}"))
                if self.log is None and not silent:  # it may still be loading its model
                    patience = f"asked again for {self.patience:g} s (engine.sglang.down_s)"
                    log.warning("%s does not answer: %s; %s%s", self, why, patience, START_IT)
                silent = why
                await asyncio.sleep(POLL_S)

    def check(self) -> None:
        """Raises EngineFailed where the process has ended."""
        if self.process is not None and self.process.poll() is not None:
            line = f"{self} has ended with exit code {self.process.returncode}"
            raise EngineFailed(line + self._where())

    def _where(self) -> str:
        """The end of the log, where there is one, and where the rest is."""
        if self.log is None:
            return ""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        # A port that is taken is told of as an error first; others follow from it.
        said = lines[-1:] + [line for mark in ("Error", IN_USE) for line in lines if mark in line]
        return f": {said[-1].strip()[-300:] if said else ''} (log: {self.log})"

    def stop(self) -> None:
        """End the process and all that it has started."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def told(error: Exception) -> str:
    """Why a server cannot be reached, in the words of the system where it has some."""
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        if number is not None and number > 0:  # an address that nobody knows has its own numbers
            return os.strerror(number)
    return f"{type(error).__name__.strip('_')} {error}".strip()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A port of this machine that nobody listens on, nor will before the server does.

    A server binds its port once its model is loaded; until then any program that asks the kernel
    for a port could be given one of the kernel's range.
    """
    low = int(KERNELS.read_text().split()[0])
    ports = [port for port in PORTS if port < low]
    random.SystemRandom().shuffle(ports)  # unseeded: jobs of one seed run side by side
    for port in [*ports, 0]:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return listener.getsockname()[1]
    raise EngineFailed("this machine has no free port left")


def command(
    *,
    python: str,
    model: Source,
    settings: ServerConfig,
    device: str,
    dtype: str,
    max_prefill_tokens: int,
    routing: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> list[str]:
    """How stock SGLang is started as a server of ours (also by hand, for engine=sglang_remote).

    ``routing`` is what the plug-in reads: route_id, eos_ids, tokens (ids that the tokenizer has),
    router (a path or None), pair and identity. ``extra``, then ``settings.args`` come last, and
    win. The port is left to add.
    """
    on_cpu = {
        "attention_backend": "torch_native",
        "sampling_backend": "pytorch",
        "disable_cuda_graph": True,
        "sleep_on_idle": True,
        "max_total_tokens": 131072,  # a share of a GPU's memory means nothing there
    }
    options: dict[str, Any] = {
        "model_path": str(Path(model.where, model.gguf)) if model.gguf else model.where,
        "revision": model.revision,
        "host": "127.0.0.1",
        "device": device,
        "dtype": settings.dtype or dtype,
        "tp_size": settings.tp_size,
        "base_gpu_id": settings.base_gpu_id,
        "mem_fraction_static": settings.mem_fraction_static,
        "context_length": settings.context_length,
        "max_running_requests": settings.max_running_requests,
        "chunked_prefill_size": max_prefill_tokens,
        "page_size": 1,  # a handoff recomputes one token, not a page of them
        "return_hidden_states_mode": "full",
        "incremental_streaming_output": True,
        "skip_tokenizer_init": True,
        "skip_server_warmup": True,
        "log_level": "warning",
        "json_model_override_args": json.dumps({"r2r": dict(routing)}),
    }
    if device == "cpu":
        options |= on_cpu
    if settings.attention_backend is not None:
        options["attention_backend"] = settings.attention_backend
    for further in (extra, settings.args):
        options |= {key.replace("-", "_"): value for key, value in further.items()}
    line = [python, "-m", "sglang.launch_server"]
    for key, value in options.items():
        if value is None or value is False:
            continue
        line += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return line
