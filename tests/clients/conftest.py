"""A running gateway for the official clients' tests, cleared of scripts before each."""

import pytest

from tests.world import world


@pytest.fixture(scope="session")
def _shared():
    with world() as running:
        yield running


@pytest.fixture
def running(_shared):
    """The gateway before a simulator that answers normally and has an empty log."""

    def clear() -> None:
        _shared.simulator.clear_scripts()
        _shared.simulator.log.clear()

    _shared.run(clear)
    return _shared
