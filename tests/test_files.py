"""Locks and syncs where a file system offers less than a local one, such as NFS and CIFS."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

import loaders.files
from hebbcore import files

MODULES = pytest.mark.parametrize("module", [files, loaders.files])


def is_folder(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def refusing(call, number, refused):
    """Return a call of the system that fails for the descriptors that `refused` says."""

    def refuses(descriptor, *rest):
        if refused(descriptor):
            raise OSError(number, os.strerror(number))
        return call(descriptor, *rest)

    return refuses


def test_two_that_write_the_same_file_do_so_one_after_the_other(tmp_path):
    """Or one would rename what the other has half written. Locks of threads and of processes are the same."""
    path, seen, errors = tmp_path / "file", set(), []

    def slowly(temporary, letter):
        with temporary.open("wb", buffering=0) as file:
            for _ in range(50):
                file.write(letter)
                time.sleep(0.0002)

    def write_often(letter):
        try:
            for _ in range(5):
                files.write_atomically(path, lambda temporary: slowly(temporary, letter))
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write_often, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            seen.add(path.read_bytes())
    assert errors == []
    assert seen <= {50 * b"a", 50 * b"b", 50 * b"c"}
    assert os.listdir(tmp_path) == ["file"]


WRITER = """
import sys, time
from pathlib import Path
from hebbcore import files

def write(temporary):
    temporary.write_text("first")
    print("writing", flush=True)
    time.sleep(0.2)

files.write_atomically(Path(sys.argv[1]), write)
"""


def test_who_waits_for_a_writer_that_was_stopped_says_so_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files, "_PATIENCE", 0.05)
    path = tmp_path / "file"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGSTOP)
        second = threading.Thread(target=files.write_text, args=(path, "second"))
        second.start()
        while not caplog.messages:
            time.sleep(0.01)
        time.sleep(0.2)
        assert second.is_alive()
        writer.send_signal(signal.SIGCONT)
        second.join()
    assert caplog.messages == [
        f"another process or thread is writing {path}, or was stopped while it did; waiting for it"
    ]
    assert path.read_text() == "second"
    files.write_text(path, "third")  # nobody else: at once, and without a word
    assert len(caplog.messages) == 1


def test_what_a_kill_left_of_a_write_is_taken_over_or_forgotten(tmp_path):
    path, left = tmp_path / "file", (tmp_path / ".file.partial", tmp_path / ".file.writing")
    for remove in (
        lambda: files.write_text(path, "new"), lambda: files.forget(path), lambda: files.remove_partial(tmp_path)
    ):  # fmt: skip
        for each in left:
            each.write_text("half")
        remove()
        assert not any(each.exists() for each in left)


def test_what_is_being_written_and_what_others_wrote_is_left(tmp_path):
    (tmp_path / ".another's.partial").mkdir()

    def write(temporary):
        temporary.write_text("half")
        files.remove_partial(tmp_path)
        temporary.write_text(f"{temporary.read_text()}, whole")

    files.write_atomically(tmp_path / "file", write)
    assert (tmp_path / "file").read_text() == "half, whole"
    assert sorted(os.listdir(tmp_path)) == [".another's.partial", "file"]


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_folders_that_cannot_be_locked_are_held_by_a_file(tmp_path, monkeypatch, number):
    monkeypatch.setattr(files.fcntl, "flock", refusing(fcntl.flock, number, is_folder))
    with files.locked(tmp_path, "training into"):
        held = pytest.raises(BlockingIOError, match=f"another process is training into {tmp_path}; wait for it")
        with held, files.locked(tmp_path, "training into"):
            pass
        assert os.listdir(tmp_path) == [".lock"]
    (tmp_path / ".lock").touch()  # as a kill leaves it
    with files.locked_until_taken(tmp_path, "training into"), files.locked(tmp_path, "training into"):
        pass
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_locked_a_warning_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files.fcntl, "flock", refusing(fcntl.flock, errno.ENOLCK, lambda descriptor: True))
    with files.locked(tmp_path, "training into"):
        assert caplog.messages == [f"{tmp_path} lies where nothing can be locked: let no other process write there"]
    with files.locked_file(tmp_path / "file", "extracting into"):
        assert len(caplog.messages) == 2
    assert os.listdir(tmp_path) == []


def test_other_errors_of_a_lock_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(files.fcntl, "flock", refusing(fcntl.flock, errno.EIO, lambda descriptor: True))
    with pytest.raises(OSError, match="Input/output error"), files.locked(tmp_path, "training into"):
        pass


@MODULES
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF])
def test_a_folder_that_cannot_be_synced_is_written_to(tmp_path, monkeypatch, module, number):
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", refusing(fsync, number, is_folder))
    module.write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"
    monkeypatch.setattr(os, "fsync", refusing(fsync, number, lambda descriptor: not is_folder(descriptor)))
    with pytest.raises(OSError, match="cannot write"):
        module.write_text(tmp_path / "file", "other")
    assert (tmp_path / "file").read_text() == "text"
