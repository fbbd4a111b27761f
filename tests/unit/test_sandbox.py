"""Programs that a model could write, and what becomes of them."""

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from r2r.errors import ConfigError
from r2r.evaluation import sandbox
from r2r.evaluation.sandbox import OUTPUT_BYTES, run_program


def run(code, stdin="", timeout_s=5.0, memory_mb=256):
    return run_program(code, stdin, timeout_s=timeout_s, memory_mb=memory_mb)


try:
    run("")
except ConfigError as error:
    pytest.skip(str(error), allow_module_level=True)


def test_a_program_reads_and_writes():
    result = run("print(int(input()) * 2)", "21\n")
    assert (result.ok, result.stdout, result.reason) == (True, "42\n", "")


def test_an_exception_and_an_exit_code_are_reported():
    result = run("raise ValueError('why')")
    assert not result.ok and result.reason == "exit code 1" and "why" in result.stderr
    assert run("import sys; sys.exit(3)").reason == "exit code 3"
    assert run("import ctypes; ctypes.string_at(0)").reason == "killed by SIGSEGV"


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import signal; signal.pause()",
        "import os, signal\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except OSError: pass\nwhile True: pass",
    ],
)
def test_an_endless_program_is_stopped(code):
    began = time.monotonic()
    assert run(code, timeout_s=0.5).reason == "ran longer than 0.5 s"
    assert time.monotonic() - began < sandbox.GRACE_S


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = 'a' * 10**9", "MemoryError"),
        ("import os\nwhile True: os.fork()", "BlockingIOError"),
        ("import threading\nthreading.Thread(target=print).start()", "RuntimeError"),
        ("import subprocess; subprocess.run(['/bin/ls'])", "BlockingIOError"),
        ("open('/usr/x', 'w')", "Read-only file system"),
        ("open('/x', 'w')", "Read-only file system"),
        ("open('/etc/passwd')", "FileNotFoundError"),
        ("f = open('big', 'w')\nwhile True: f.write('a' * 10**5)", "File too large"),
        ("files = [open(f'{n}', 'w') for n in range(99)]", "Too many open files"),
        ("import socket; socket.create_connection(('1.1.1.1', 53), 1)", "unreachable"),
        ("import os; os.kill(-1, 9)", "ProcessLookupError"),
        ("import os; os.setuid(0)", "PermissionError"),
        ("import os; os.mkdir('a'); os.chroot('a')", "PermissionError"),
    ],
)
def test_what_is_not_allowed_fails(code, error):
    result = run(code)
    assert not result.ok and error in result.stderr


def test_no_rights_are_won_back():
    code = (
        "import ctypes; libc = ctypes.CDLL(None)\n"
        "print(libc.unshare(0x10000000), libc.unshare(0x20000),"
        " libc.mount(b't', b'/work', b'tmpfs', 0, b''))"
    )
    assert run(code).stdout.split() == ["-1", "-1", "-1"]


def test_the_program_sees_nothing_of_this_process(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET", "1")
    (tmp_path / "file").write_text("secret")
    result = run(
        f"import os; print('SECRET' in os.environ, os.path.exists({str(tmp_path)!r}), os.getpid(),"
        " os.listdir('.'), os.path.exists('/proc/self'))"
    )
    assert result.stdout == "False False 1 [] False\n"


def test_output_is_cut_off():
    result = run("while True: print('a' * 1000)")
    assert not result.ok and len(result.stdout) <= OUTPUT_BYTES


def test_programs_side_by_side_each_have_their_processes():
    code = "import os, time\nfor _ in '123': os.fork() or time.sleep(1) or os._exit(0)\nos.wait()"
    with ThreadPoolExecutor(6) as pool:
        runs = [
            pool.submit(run_program, code, timeout_s=20, memory_mb=256, processes=4)
            for _ in range(6)
        ]
    assert [each.result().reason for each in runs] == [""] * 6


def test_its_own_folder_is_writable_and_gone_afterwards():
    write = "open('x', 'w').write('a'); import os; print(os.listdir())"
    assert run(write).stdout == run(write).stdout == "['x']\n"


def test_one_program_does_not_stop_the_next():
    run("import os; os.kill(os.getpid(), 9)", timeout_s=0.5)
    assert run("print(1)").ok


def test_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("R2R_SANDBOX", "off")
    with pytest.raises(ConfigError, match="limits, namespaces"):
        run("print(1)")


def test_without_namespaces_a_run_is_refused_unless_limits_are_accepted(monkeypatch, tmp_path):
    jail = tmp_path / "jail.py"
    source = Path(sandbox.JAIL).read_text()
    jail.write_text(source.replace("libc.unshare(", "libc.unshare(-1 + 0 * "))
    monkeypatch.setattr(sandbox, "JAIL", str(jail))
    with pytest.raises(ConfigError, match="R2R_SANDBOX=limits"):
        run("print(1)")
    monkeypatch.setenv("R2R_SANDBOX", "limits")
    result = run("print(1)")
    assert result.ok and result.stdout == "1\n"
    assert run("x = 'a' * 10**9").reason == "exit code 1"
    assert run("while True: pass", timeout_s=0.5).reason == "ran longer than 0.5 s"


AS_ANOTHER = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from r2r.evaluation import sandbox

sandbox.PYTHON = sys.executable
run = lambda code, mb=256, **more: sandbox.run_program(code, timeout_s=20, memory_mb=mb, **more)
threads = "import threading, time\\nts = [threading.Thread(target=time.sleep, args=(0.3,)) "
threads += "for _ in range(7)]\\n[t.start() for t in ts]\\n[t.join() for t in ts]"
assert os.getuid() == 12345
assert run("print(1 + 1)").stdout == "2\\n"
with ThreadPoolExecutor(4) as pool:
    side_by_side = [pool.submit(run, threads, 2048, processes=8) for _ in range(4)]
assert [each.result().reason for each in side_by_side] == [""] * 4
assert "MemoryError" in run("x = bytearray(1 << 30)").stderr
assert "BlockingIOError" in run("import os\\nwhile True: os.fork()").stderr
assert "File too large" in run("print('x' * (1 << 25))").stderr
assert sandbox.run_program("while True: pass", timeout_s=0.5, memory_mb=256).reason
"""


@pytest.mark.parametrize("mode", sandbox.MODES)
def test_as_an_ordinary_user(mode):
    """What limits count differs by user; programs may start what they were promised."""
    python = shutil.which("python3", path="/usr/bin")
    if os.getuid() or python is None:
        pytest.skip("becomes another user, who has a Python")
    source = str(Path(sandbox.__file__).parents[2])
    told = [
        subprocess.run(
            [python, "-c", code], user=12345, group=12345, extra_groups=[], text=True,
            capture_output=True, env={"R2R_SANDBOX": mode, "PYTHONPATH": source},
        )
        for code in ("import r2r.evaluation.sandbox", AS_ANOTHER)
    ]  # fmt: skip
    if told[0].returncode:
        pytest.skip("another user cannot read this project, or has another Python")
    if mode == "namespaces" and "no sandbox on this system" in told[1].stderr:
        pytest.skip("another user is granted no namespaces")
    assert told[1].returncode == 0, told[1].stderr


def test_no_process_or_file_descriptor_is_left_behind():
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        run("print(1)")
    assert os.listdir("/proc/self/fd") == before
