"""What the gateway makes of silence when it is told to stop, and of descriptors that run out."""

import socket

import pytest

from mana_llm.edge.lifecycle import PROBED_S, QUIET_S, Traffic
from mana_llm.edge.sockets import TELL_S, Descriptors


def test_traffic_may_come_when_a_request_was_just_there():
    """A second after the last request nobody is waited for; until then somebody is."""
    traffic = Traffic()
    traffic.look(100.0, 1, 0)
    traffic.look(100.0 + QUIET_S / 2, 1, 0)
    assert traffic.may_come(100.0 + QUIET_S * 0.9)
    assert not traffic.may_come(100.0 + QUIET_S)


def test_traffic_may_come_when_somebody_asks_for_readiness():
    """Whoever probes `/readyz` sends requests until it has probed again, however quiet it is meanwhile."""
    traffic = Traffic()
    traffic.look(100.0, 1, 1)
    assert traffic.may_come(100.0 + PROBED_S * 0.9)
    assert not traffic.may_come(100.0 + PROBED_S)


def test_no_traffic_comes_when_there_never_was_any():
    """A gateway that was never asked anything has nobody to wait for."""
    assert not Traffic().may_come(0.0)


class Taken:
    """A transport on a descriptor of this number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def get_extra_info(self, name: str) -> "Taken":
        return self

    def fileno(self) -> int:
        return self._number


@pytest.mark.parametrize(("limit", "last"), [(256, 192), (1024, 768), (20_000, 18_976)])
def test_descriptors_are_kept_for_providers_when_clients_are_many(limit, last):
    """A quarter of the descriptors, a thousand at most, is for what answering needs."""
    descriptors = Descriptors(limit)
    assert not descriptors.short(Taken(last - 1))
    assert descriptors.short(Taken(last))


def test_shortage_is_told_once_a_second_when_it_goes_on(caplog):
    """However many clients are turned away, the log gets one line per second."""
    descriptors = Descriptors(256)
    told = [descriptors.tell(100.0 + step * TELL_S / 10) for step in range(21)]
    assert told.count(True) == 3
    assert len(caplog.records) == 3


def test_descriptors_are_never_short_when_there_is_no_limit():
    """A real socket of a process without a small limit may stay."""
    with socket.socket() as sock:

        class Real:
            def get_extra_info(self, name: str) -> socket.socket:
                return sock

        assert not Descriptors(1 << 30).short(Real())
