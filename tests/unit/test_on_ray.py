"""Labelling on Ray: the serial run's files, whatever becomes of the workers."""

import asyncio
import os
import signal
import sys
from functools import partial

import pytest
from test_labeling import EQUIVALENCE, label, labeler, queries

from r2r.config import RayConfig
from r2r.errors import ConfigError, EngineFailed
from r2r.labeling.flow import label_queries
from r2r.labeling.on_ray import OnRay
from r2r.records import folder_hash


class Deadly:
    """A verifier that takes its whole process with it, ``times`` times over all processes."""

    def __init__(self, marks, times):
        self.marks, self.times = marks, times

    async def verify(self, comparisons):
        if len(list(self.marks.iterdir())) < self.times:
            (self.marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return await EQUIVALENCE.verify(comparisons)


class Unhappy:
    async def verify(self, comparisons):
        raise ConfigError("labeler.judge.url must be a server that answers")


def on_ray(folder, make=labeler, count=10, **options):
    serial = labeler()
    execute = OnRay(make, RayConfig(**options)).each
    work = label_queries(queries(count), folder, execute, serial.config, serial.sentences)
    asyncio.run(work)


@pytest.fixture(autouse=True)
def workers_find_the_tests(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


@pytest.fixture
def marks(tmp_path):
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_lost_workers_change_nothing(tmp_path, marks):
    pytest.importorskip("ray")
    label(tmp_path / "serial")
    make = partial(labeler, verifier=Deadly(marks, times=2))
    on_ray(tmp_path / "ray", make, workers=2)
    assert len(list(marks.iterdir())) == 2
    assert folder_hash(tmp_path / "ray") == folder_hash(tmp_path / "serial")
    on_ray(tmp_path / "ray", partial(labeler, verifier=Unhappy()), workers=1)  # nothing is missing


@pytest.mark.slow
def test_a_shard_that_always_takes_its_worker_ends_the_run_in_one_line(tmp_path, marks):
    pytest.importorskip("ray")
    with pytest.raises(EngineFailed, match="were lost 2 times") as failed:
        on_ray(tmp_path, partial(labeler, verifier=Deadly(marks, times=99)), workers=1, retries=1)
    assert "\n" not in str(failed.value)


@pytest.mark.slow
def test_a_workers_error_is_told_as_it_is(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError) as failed:
        on_ray(tmp_path, partial(labeler, verifier=Unhappy()), workers=1)
    assert str(failed.value) == "labeler.judge.url must be a server that answers"


@pytest.mark.slow
def test_a_worker_that_fits_nowhere_is_refused(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=r"labeler\.ray must be cpus and gpus of one worker that"):
        on_ray(tmp_path, gpus=64)


@pytest.mark.slow
def test_an_address_without_a_cluster_is_refused(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=r"labeler\.ray\.address must be of a running Ray"):
        on_ray(tmp_path, address="127.0.0.1:1")


def test_without_ray_one_line_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"serial where Ray is not installed \(pip install"):
        on_ray(tmp_path)
