"""tools/install.py: what is not installed completely is not ready."""
import os
import shutil
import subprocess
import sys

import pytest
from infra_support import ROOT


@pytest.fixture
def install(tmp_path):
    """Installs sets in a copy of tools/, with a package index that does not answer."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull,
               "PIP_NO_CACHE_DIR": "1"}

    def run(name):
        # The machine's Python, which has pip: the tools' own has none.
        command = [sys._base_executable, tmp_path / "tools/install.py", name]
        return subprocess.run(command, env={**os.environ, **nowhere}, capture_output=True, text=True, check=False)
    return run


def test_a_set_that_cannot_be_downloaded_is_not_ready_and_says_so(install, tmp_path):
    done = install("moto")
    assert done.returncode == 1
    assert "The moto tools are not installed: this failed with " in done.stderr
    assert not (tmp_path / ".tools/moto/ready").exists()


def test_a_complete_set_is_ready_and_replaces_the_old_one(install, tmp_path):
    (tmp_path / "tools/empty.txt").write_text("", encoding="utf-8")
    (tmp_path / ".tools/empty").mkdir(parents=True)
    (tmp_path / ".tools/empty/old").touch()
    assert install("empty").returncode == 0
    assert (tmp_path / ".tools/empty/ready").exists()
    assert not (tmp_path / ".tools/empty/old").exists()
