"""Files that are damaged, hostile or unusual get the verdict in a stream that they get everywhere."""

from __future__ import annotations

from pathlib import Path

from streaming import Start

from corpus.hostile import hostile
from corpus.odd import odd
from sortal.runtime.classifier import open_classifier


def test_files_of_a_folder_get_the_verdict_of_predict(stream: Start, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    cases = [(name, make()) for name, _, make in [*hostile(), *odd()]]
    for number, (_, data) in enumerate(cases):
        (folder / f"{number:03d}.jpg").write_bytes(data)
    with open_classifier(bundle) as model:
        expected = model.predict([data for _, data in cases])
    running = stream("--source", folder, "--once")
    assert running.process.wait(120) == 0, running.err.read_text()
    frames = {one["file"]: one for one in running.results("frame")}
    assert len(frames) == len(cases)
    for row, (name, _) in enumerate(cases):
        found = frames[f"{row:03d}.jpg"]
        if row in expected.errors:
            assert (found["state"], found["reason"]) == ("rejected", expected.errors[row][0]), name
        else:
            assert (found["state"] == "abstained") == bool(expected.abstained[row]), name
            assert found["label"] == expected.answers()[row] or found["state"] == "abstained", name
    assert running.events("ended")[0]["workers_died"] == 0
