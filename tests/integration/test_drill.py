"""A short drill; make drill is the whole one."""

import pytest
from drill import drill

pytestmark = pytest.mark.slow


def test_told_to_stop_or_on_a_full_disk_a_job_ends_the_same_afterwards(tmp_path):
    tallies = drill(tmp_path, each=1, seed=1, kinds=["SIGTERM", "disk full"])
    assert [tally.wrong for tally in tallies] == [[], []]
    assert tallies[0].tried == 1
