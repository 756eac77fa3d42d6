"""What may be written to a log, and what a reader must be told of it."""

from hypothesis import strategies as st

from streams.events import Delta, State
from tests.streams.conftest import Happened, Said, SoFar, Stood, Sung

integers = st.integers(-(2**63), 2**63 - 1)  # of JSON
texts = st.text(max_size=4)
deltas = st.builds(Said, texts, texts) | st.builds(Sung, texts)
events = deltas | deltas | deltas | st.builds(Happened, integers) | st.builds(Stood, integers)
written_logs = st.lists(events, max_size=40).flatmap(
    # Neighbours of one kind by the hundred, so that runs of them are packed.
    lambda few: st.lists(st.sampled_from(few), max_size=900) if few else st.just([])
)


def assert_is_the_rest(numbered, written, after):
    """No gap, nothing twice, and each number is that of the last event it covers."""
    seqs = [seq for seq, _event in numbered]
    assert seqs == sorted(set(seqs))
    assert all(seq > after for seq in seqs)
    assert seqs[-1:] == ([len(written)] if after < len(written) else [])
    seen = after
    for seq, event in numbered:
        covered = written[seen:seq]
        if isinstance(event, SoFar):
            assert event.number == seq
        elif isinstance(event, Delta):
            assert event == type(event).joined(covered)
            assert all(type(each) is type(event) for each in covered)
        elif isinstance(event, State):
            assert event == covered[-1]
            assert all(type(each) is type(event) for each in covered)
        else:
            assert covered == [event]
        seen = seq
