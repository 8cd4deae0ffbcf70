"""When a live view may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat.view.rate import GAP, LONGEST, MOST, SHARE, Pace


def test_the_first_update_may_be_sent_at_once():
    """Nothing was sent yet, so nothing is waited for."""
    assert Pace().wait(100.0) == 0.0


def test_updates_keep_a_gap():
    """A cheap update is followed by the gap, however quick it was."""
    pace = Pace()
    pace.spend(1, 0.0, 10.0)
    assert pace.wait(10.0) == pytest.approx(GAP)
    assert pace.wait(10.0 + GAP) == pytest.approx(0.0)


def test_an_update_waits_for_eight_times_what_the_last_one_took():
    """So drawing takes a ninth of the time at most, however large the tail is."""
    pace = Pace()
    pace.spend(1, 0.1, 10.1)
    assert pace.wait(10.1) == pytest.approx(SHARE * 0.1)


def test_one_slow_drawing_does_not_stop_the_picture_for_long():
    """A machine that slept for a minute does not make the view sleep for eight."""
    pace = Pace()
    pace.spend(1, 60.0, 70.0)
    assert pace.wait(70.0) == pytest.approx(LONGEST)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.4)), min_size=1, max_size=300))
def test_no_second_sees_more_than_25_messages(updates):
    """Whoever asks before each update sends at most 25 messages in any second, and never gets stuck."""
    pace, now = Pace(), 0.0
    sent: list[tuple[float, int]] = []
    for messages, idle in updates:
        now += idle
        wait = pace.wait(now)
        assert wait <= 1.0 + GAP
        now += wait
        pace.spend(messages, 0.0, now)
        sent.append((now, messages))
    for start, _ in sent:
        assert sum(messages for when, messages in sent if start <= when < start + 1.0) <= MOST + 3
