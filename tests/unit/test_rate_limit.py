"""The rate limit of a live view."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat.view.rate import DRAWING_COST_FACTOR, MAX_INTERVAL_S, MAX_MESSAGES_PER_S, MIN_INTERVAL_S, RateLimit


def test_the_first_update_may_be_sent_immediately():
    """Nothing was sent before, so there is no wait."""
    assert RateLimit().wait(100.0) == 0.0


def test_updates_keep_an_interval():
    """The shortest interval follows an update that cost nothing."""
    rate = RateLimit()
    rate.spend(1, 0.0, 10.0)
    assert rate.wait(10.0) == pytest.approx(MIN_INTERVAL_S)
    assert rate.wait(10.0 + MIN_INTERVAL_S) == pytest.approx(0.0)


def test_an_update_waits_for_eight_times_the_cost_of_the_last_one():
    """So drawing takes at most a ninth of the time, for a tail of any size."""
    rate = RateLimit()
    rate.spend(1, 0.1, 10.1)
    assert rate.wait(10.1) == pytest.approx(DRAWING_COST_FACTOR * 0.1)


def test_one_slow_drawing_does_not_stop_the_view_for_long():
    """A machine that slept for a minute does not make the view sleep for eight."""
    rate = RateLimit()
    rate.spend(1, 60.0, 70.0)
    assert rate.wait(70.0) == pytest.approx(MAX_INTERVAL_S)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.4)), min_size=1, max_size=300))
def test_no_second_sees_more_than_25_messages(updates):
    """A view that asks before each update sends at most 25 messages in any second, and never gets stuck."""
    rate, now = RateLimit(), 0.0
    sent: list[tuple[float, int]] = []
    for messages, idle in updates:
        now += idle
        wait = rate.wait(now)
        assert wait <= 1.0 + MIN_INTERVAL_S
        now += wait
        rate.spend(messages, 0.0, now)
        sent.append((now, messages))
    for start, _ in sent:
        assert sum(messages for when, messages in sent if start <= when < start + 1.0) <= MAX_MESSAGES_PER_S + 3
