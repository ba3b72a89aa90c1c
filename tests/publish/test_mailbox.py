import threading
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringwatch.messages import FrameRows, Profile, SavedState, SeriesEvent, SeriesStart, Snapshot, Status
from ringwatch.publish.mailbox import Mailbox, size_bytes

LARGE = 1 << 30


def test_results_come_out_in_the_order_they_were_put(results):
    mailbox = Mailbox(LARGE)
    put = [results.event(), results.rows(), results.snapshot(), results.result(), results.status()]
    for result in put:
        mailbox.put(result)
    assert mailbox.get(0) == put
    assert mailbox.get(0) == []


def test_the_newest_snapshot_profile_and_status_replace_the_waiting_one(results):
    mailbox = Mailbox(LARGE)
    for n in (1, 2, 3):
        mailbox.put(results.snapshot(n))
        mailbox.put(results.status(fps=n))
        mailbox.put(results.profile(n_frames=n))
        mailbox.put(results.profile(source="accumulated", n_frames=n))
    got = mailbox.get(0)
    assert [type(result) for result in got] == [Snapshot, Status, Profile, Profile]
    assert [result.n_frames for result in got if not isinstance(result, Status)] == [3, 3, 3]
    assert mailbox.dropped == 0


def test_rows_and_events_are_never_replaced(results):
    mailbox = Mailbox(LARGE)
    put = [results.event(), results.rows(0), results.rows(0), results.event("end"), results.result(), results.result()]
    for result in put:
        mailbox.put(result)
    assert mailbox.get(0) == put


def test_every_decision_waits_for_its_reader(results):
    mailbox = Mailbox(LARGE)
    put = [results.decision(n) for n in (16, 22, 32)]
    for decision in put:
        mailbox.put(decision)
    assert mailbox.get(0) == put


def test_arrays_deep_inside_a_result_are_counted(results):
    large = results.measured(bin_spottiness=np.zeros(10_000))
    assert size_bytes(large) - size_bytes(results.snapshot()) > 80_000


def test_the_final_snapshot_of_a_series_waits_beside_the_first_of_the_next(results, other_results):
    mailbox = Mailbox(LARGE)
    mailbox.put(results.snapshot(412))
    mailbox.put(other_results.snapshot(1))
    assert [snapshot.n_frames for snapshot in mailbox.get(0)] == [412, 1]


def test_when_full_the_oldest_rows_go_first_and_are_counted(results):
    rows = [results.rows(i) for i in range(10)]
    start = results.event()
    mailbox = Mailbox(size_bytes(start) + 3 * size_bytes(rows[0]))
    mailbox.put(start)
    for row in rows:
        mailbox.put(row)
    assert mailbox.get(0) == [start, *rows[-3:]]
    assert mailbox.dropped == 7


def test_a_result_larger_than_the_mailbox_still_arrives(results):
    mailbox = Mailbox(10_000)
    final = results.result(512, 512)
    mailbox.put(results.rows())
    mailbox.put(results.event("end"))
    mailbox.put(final)
    assert mailbox.get(0) == [final]
    assert mailbox.dropped == 2


def test_close_wakes_the_reader_and_refuses_more(results):
    mailbox = Mailbox(LARGE)
    got = []
    reader = threading.Thread(target=lambda: got.append(mailbox.get(30)))
    reader.start()
    mailbox.close()
    reader.join(2)
    mailbox.put(results.rows())
    assert got == [[]]
    assert mailbox.get(0) == []


@given(
    st.lists(st.sampled_from(["event", "rows", "snapshot", "status", "profile"]), max_size=60), st.integers(0, 80_000)
)
def test_whatever_is_put_the_order_holds_the_newest_stays_and_the_bound_is_kept(results, kinds, max_bytes):
    mailbox = Mailbox(max_bytes)
    put = [getattr(results, kind)() for kind in kinds]
    for result in put:
        mailbox.put(result)
    got = mailbox.get(0)
    positions = [next(i for i, result in enumerate(put) if result is one) for one in got]
    assert positions == sorted(positions)
    assert got[-1:] == put[-1:]
    assert sum(map(size_bytes, got)) <= max_bytes or len(got) == 1
    kept = [result for result in put if isinstance(result, SeriesEvent | FrameRows)]
    lost = [result for result in kept if not any(result is one for one in got)]
    assert mailbox.dropped >= len(lost)
    assert mailbox.dropped == 0 or sum(map(size_bytes, put)) > max_bytes


def state(results, generation=1):
    origin = replace(results.origin, generation=generation)
    return SavedState(replace(results.result(), origin=origin), SeriesStart(17), (), 0, (), 0.0, is_running=True)


def test_a_saved_state_replaces_the_one_before_but_not_that_of_another_generation(results):
    """Rows belong to the newest state before them: after a failure of the device the last one counts."""
    mailbox, put = Mailbox(LARGE), [state(results), results.rows(), state(results), results.event(), state(results, 2)]
    for result in put:
        mailbox.put(result)
    assert mailbox.get(0) == put[1:]


def test_a_saved_state_gives_way_before_any_row_does(results):
    rows, saved = results.rows(), state(results)
    mailbox = Mailbox(2 * size_bytes(rows) + size_bytes(saved) - 1)
    for result in (saved, rows, rows):
        mailbox.put(result)
    assert mailbox.get(0) == [rows, rows]
    for result in (rows, rows, saved):
        mailbox.put(result)
    assert mailbox.get(0) == [rows, rows]
    mailbox.put(saved)
    assert mailbox.get(0) == [saved]
