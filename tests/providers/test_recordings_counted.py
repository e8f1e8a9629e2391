"""How many recordings of chats, embeddings and lists of models are understood: a table, and that none is left out."""

import sys

import pytest

from tests.cloud_recordings import cloud_rows
from tests.google_recordings import google_rows
from tests.ollama_recordings import ollama_rows
from tests.recordings import ABSENT, ROOT, recordings

FEATURES = ("plain", "stream", "calls", "reasoning", "error", "embeddings", "models", "other")
# Every recording has one of these; `calls` and `reasoning` come on top.
KINDS = ("plain", "stream", "error", "embeddings", "models", "other")
# Folders that no provider reads, as nothing here speaks to an upstream in these APIs.
NOBODYS = {
    "anthropic": "the Messages API",
    "openai-completions": "legacy completions",
    "openai-responses": "the Responses API",
}
# What would make a recording one that somebody has to read, wherever it lies.
CALLED = ("/chat/completions", "/embeddings", "/api/chat", "/api/embed", ":generateContent", ":streamGenerateContent")
ANSWERS = (b'"object":"chat.completion', b'"object":"embedding"', b'"candidates":[')
# Named with the reason in the table; a longer list is to be looked at.
NOT_UNDERSTOOD_MAX = 20


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_every_recording_is_counted_when_the_table_is_printed(capsys):
    """Each recording of a chat, an embedding or a list of models is understood, or named here with the reason."""
    rows = [*cloud_rows(), *google_rows(), *ollama_rows()]
    counts = {(folder, feature): (decoded, len(missed)) for folder, feature, decoded, missed in rows}
    folders = list(dict.fromkeys(folder for folder, *_ in rows))
    found = {path.name: len(recordings(path.name)) for path in ROOT.iterdir() if path.is_dir()}
    lines = [f"{'recordings':<22}{'all':>5}" + "".join(f"{name:>12}" for name in FEATURES)]
    for folder in folders:
        cells = [shown(*counts.get((folder, feature), (0, 0))) for feature in FEATURES]
        lines.append(f"{folder:<22}{found[folder]:>5}" + "".join(f"{cell:>12}" for cell in cells))
    sums = [shown(*totals(rows, feature)) for feature in FEATURES]
    lines.append(f"{'all':<22}{sum(found[folder] for folder in folders):>5}" + "".join(f"{one:>12}" for one in sums))
    missed = sorted({f"{folder}: {one}" for folder, _, _, named in rows for one in named})
    lines += [f"not understood: {one}" for one in missed]
    lines += [f"not called: {folder}: {reason}: {found[folder]}" for folder, reason in NOBODYS.items()]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert len(missed) <= NOT_UNDERSTOOD_MAX
    for folder in folders:
        assert sum(sum(counts.get((folder, kind), (0, 0))) for kind in KINDS) == found[folder], folder
    assert {*folders, *NOBODYS} == set(found)


def shown(decoded, missed):
    """A cell: how many are understood, of how many if not all are."""
    return f"{decoded}/{decoded + missed}" if missed else str(decoded or "-")


def totals(rows, feature):
    """How many are understood and how many are not, in all folders."""
    chosen = [(decoded, len(missed)) for _, each, decoded, missed in rows if each == feature]
    return sum(decoded for decoded, _ in chosen), sum(missed for _, missed in chosen)


@pytest.mark.parametrize("folder", NOBODYS)
@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_nothing_of_ours_is_in_a_folder_when_nobody_reads_it(folder):
    """No chat, embedding or list of models of an API that is called here lies where no provider looks."""
    for recording in recordings(folder):
        assert not recording.url.split("?")[0].endswith(CALLED), recording.file
        assert not any(word in recording.body.replace(b" ", b"") for word in ANSWERS), recording.file
