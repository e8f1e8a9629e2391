"""Figures of several workers: added up, never below what was shown, and none of a dead worker's lost."""

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from mana_llm.observe.shared import Shared


def families(requests: int, in_flight: int, healthy: int = 1):
    """What one worker has counted."""
    counter = CounterMetricFamily("mana_llm_requests", "Requests.", labels=("model", "status"))
    counter.add_metric(["a", "200"], requests)
    running = GaugeMetricFamily("mana_llm_in_flight", "Under way.")
    running.add_metric([], in_flight)
    state = GaugeMetricFamily("mana_llm_provider_healthy", "1 if asked.", labels=("provider",))
    state.add_metric(["x"], healthy)
    spent = HistogramMetricFamily("mana_llm_request_duration_seconds", "Whole requests.")
    spent.add_metric([], [("0.1", requests), ("+Inf", requests)], requests * 0.05)
    return [counter, running, state, spent]


def shown(metrics) -> dict[str, float]:
    """Every sample by its name; those of a histogram by their bound too."""
    return {sample.name + sample.labels.get("le", ""): sample.value for metric in metrics for sample in metric.samples}


def test_figures_are_added_up_when_one_worker_is_asked(tmp_path):
    """Counters, histograms and what is in flight are sums; whether a provider is asked is the asked worker's own."""
    Shared(tmp_path, 0).write(families(5, 2, healthy=0))
    assert shown(Shared(tmp_path, 1).merged(families(3, 1))) == {
        "mana_llm_requests_total": 8,
        "mana_llm_in_flight": 3,
        "mana_llm_provider_healthy": 1,
        "mana_llm_request_duration_seconds_bucket0.1": 8,
        "mana_llm_request_duration_seconds_bucket+Inf": 8,
        "mana_llm_request_duration_seconds_count": 8,
        "mana_llm_request_duration_seconds_sum": 0.4,
    }


def test_counters_never_fall_when_workers_take_turns_and_die(tmp_path):
    """A scrape of one worker is at least that of another before it, and a successor goes on where the dead one was."""
    first, second = Shared(tmp_path, 0), Shared(tmp_path, 1)
    seen = [shown(first.merged(families(5, 1)))["mana_llm_requests_total"]]
    seen.append(shown(second.merged(families(2, 0)))["mana_llm_requests_total"])
    successor = Shared(tmp_path, 0)
    seen.append(shown(second.merged(families(2, 0)))["mana_llm_requests_total"])
    seen.append(shown(successor.merged(families(0, 0)))["mana_llm_requests_total"])
    successor.write(families(1, 0))
    seen.append(shown(second.merged(families(2, 0)))["mana_llm_requests_total"])
    assert seen == [5, 7, 7, 7, 8]


def test_nothing_is_in_flight_when_its_worker_has_died(tmp_path):
    """What a dead worker had in flight is gone once its successor has written."""
    Shared(tmp_path, 0).write(families(5, 4))
    Shared(tmp_path, 0).write(families(0, 0))
    assert shown(Shared(tmp_path, 1).merged(families(0, 1)))["mana_llm_in_flight"] == 1


def test_worker_shows_its_own_when_the_folder_is_gone(tmp_path):
    """Somebody who clears temporary folders costs the sum, not the scrape."""
    folder = tmp_path / "gone"
    assert shown(Shared(folder, 0).merged(families(3, 1)))["mana_llm_requests_total"] == 3
