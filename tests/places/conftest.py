"""One kernel for each place, shared by the tests of this ring."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.places.harness import PlaceKernel, kernel_in
from tests.places.make_environments import PLACES, make


class _ByPlace(LoadScopeScheduling):
    """Gives all tests of a place to one process, which starts one kernel, and all tests of another file to one."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return next((name for name in PLACES if re.search(rf"\[{name}\b", test)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByPlace:
    """Let several processes run this ring, each of them whole places."""
    return _ByPlace(config, log)


@pytest.fixture(scope="session", params=list(PLACES))
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaceKernel]:
    """Return a kernel of one place with nbchat loaded. The environment is made if there is none."""
    place = PLACES[request.param]
    make(place)
    # The caches of Jedi and matplotlib stay: both take ten seconds and more to make theirs.
    caches = str(place.folder / "caches")
    with kernel_in(place, tmp_path_factory.mktemp(place.name), XDG_CACHE_HOME=caches) as kernel:
        kernel.run(SETUP)
        yield kernel


SETUP = """
%load_ext nbchat
import nbchat

def script(*answers, **more):
    nb = get_ipython().nbchat.settings
    nb.endpoints = {"script": nbchat.ScriptedTransport(*answers, **more)}
    nb.endpoint = "script"

def sent(number=-1):
    return get_ipython().nbchat.settings.endpoints["script"].requests[number].body()

def add(a: int, b: int = 1) -> int:
    "Add two numbers."
    print("adding", a, "and", b)
    return a + b

def open_widgets():
    import ipywidgets
    from ipywidgets.widgets import widget
    return len(widget._instances if hasattr(widget, "_instances") else ipywidgets.Widget.widgets)  # 8, 7
"""
