"""The server as a process."""
import os
import signal
import subprocess
import sys

from conftest import PACKAGE


def started(folder):
    server = subprocess.Popen([sys.executable, "-m", "local_aws", "serve"], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": str(PACKAGE), "TMPDIR": str(folder)})
    assert "ready" in server.stdout.readline()
    return server


def test_a_server_cleans_up_after_itself_and_killed_servers(tmp_path):
    killed = started(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == [f"local-aws-{killed.pid}"]
    killed.kill()
    killed.wait()
    server = started(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == [f"local-aws-{server.pid}"]
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    assert list(tmp_path.iterdir()) == []
