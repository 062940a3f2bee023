"""Packs: round trips, publication in one step, resuming, threads, and what MXNet makes of them."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_provider_farm.pack_format.packed_file import PackReader, PackWriter, index_line, partial_path
from lffd.engines.mxnet_engine import import_mxnet
from lffd.errors import DataError, UsageError
from lffd.records import Record, RecordSource
from tests.data_provider_farm.samples import mixed_records, record, records, same, write_pack


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(records(), max_size=4))
def test_what_is_read_is_what_was_written(tmp_path: Path, given_records: list[Record]) -> None:
    path = tmp_path / "x.rec"
    path.unlink(missing_ok=True)
    with PackReader(write_pack(path, given_records)) as reader:
        assert len(reader) == len(given_records)
        for index, expected in enumerate(given_records):
            assert same(reader[index], expected)


def test_a_reader_is_a_record_source_with_the_habits_of_a_sequence(tmp_path: Path) -> None:
    written = mixed_records()
    with PackReader(write_pack(tmp_path / "x.rec", written)) as reader:
        source: RecordSource = reader
        assert [each.name for each in reader] == [each.name for each in written]
        assert same(source[-1], written[-1])
        assert same(source[2], written[2])
        for index in (5, -6):
            with pytest.raises(IndexError, match=f"no record {index}"):
                source[index]
    with pytest.raises(UsageError, match="closed"):
        reader[0]


def test_many_threads_read_right_records(tmp_path: Path) -> None:
    written = [record([(i % 60, 1, 62, 40)], name=f"{i}.jpg", seed=i) for i in range(40)]
    with PackReader(write_pack(tmp_path / "x.rec", written)) as reader, ThreadPoolExecutor(8) as pool:
        order = np.random.default_rng(0).integers(0, 40, 2000).tolist()
        for index, found in zip(order, pool.map(reader.__getitem__, order), strict=True):
            assert same(found, written[index])


def test_nothing_is_published_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    wrong = Record("b", b"x", 1, 1, np.zeros((1, 4)), np.zeros(1, np.bool_))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="float32"):
        fill(path, [record(), wrong])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_pack_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = write_pack(tmp_path / "x.rec", [record(name="old")])
    with pytest.raises(UsageError, match="--overwrite"):
        PackWriter(path)
    with PackWriter(path, overwrite=True) as writer:
        writer.add(record(name="new"))
        with PackReader(path) as reader:
            assert reader[0].name == "old"
    with PackReader(path) as reader:
        assert [each.name for each in reader] == ["new"]


def test_two_writers_of_one_pack_do_not_mix(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "x.rec") as writer:
        with pytest.raises(UsageError, match="another process"):
            PackWriter(tmp_path / "x.rec")
        writer.add(record())


def interrupted(path: Path, written: list[Record]) -> bytes:
    """Leave a partial pack behind, and return its bytes."""
    with pytest.raises(KeyboardInterrupt):
        fill(path, written, then=KeyboardInterrupt, resume=True)
    return partial_path(path).read_bytes()


def fill(path: Path, written: list[Record], *, then: type[BaseException] | None = None, resume: bool = False) -> None:
    with PackWriter(path, resume=resume) as writer:
        for each in written:
            writer.add(each)
        if then is not None:
            raise then


def test_an_interrupted_pack_goes_on_after_its_last_whole_record(tmp_path: Path) -> None:
    written = mixed_records()
    whole = write_pack(tmp_path / "whole.rec", written)
    path = tmp_path / "x.rec"
    data = interrupted(path, written[:3])
    for cut in range(0, len(data), 97):
        partial_path(path).write_bytes(data[:cut])
        with PackWriter(path, resume=True, overwrite=True) as writer:
            kept = len(writer)
            assert kept <= 3
            for each in written[kept:]:
                writer.add(each)
        assert path.read_bytes() == whole.read_bytes()
        assert path.with_suffix(".idx").read_bytes() == whole.with_suffix(".idx").read_bytes()


def test_a_damaged_tail_of_an_interrupted_pack_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    data = bytearray(interrupted(path, mixed_records()[:3]))
    data[-30] ^= 4
    partial_path(path).write_bytes(data)
    with PackWriter(path, resume=True) as writer:
        assert len(writer) == 2


def test_a_pack_and_the_index_of_another_are_refused(tmp_path: Path) -> None:
    one = write_pack(tmp_path / "one.rec", mixed_records())
    two = write_pack(tmp_path / "two.rec", mixed_records()[:2])
    one.with_suffix(".idx").replace(two.with_suffix(".idx"))
    with pytest.raises(DataError, match=r"edit reindex .*two.rec"):
        PackReader(two)


def test_missing_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: it does not exist"):
        PackReader(tmp_path / "x.rec")
    path = write_pack(tmp_path / "x.rec", [record()])
    path.with_suffix(".idx").unlink()
    with pytest.raises(DataError, match=r"x.idx: cannot be read.*edit reindex .*x.rec"):
        PackReader(path)
    with pytest.raises(UsageError, match=r"must end in .rec"):
        PackReader(tmp_path / "x.pack")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        PackWriter(blocked / "x.rec")


def test_a_full_disk_is_an_error_of_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, buffers: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(DataError, match=r"x\.rec\.partial: cannot be written: No space left"):
        fill(tmp_path / "x.rec", [record()])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_a_part_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_pack(tmp_path / "whole.rec", mixed_records())
    monkeypatch.setattr(os, "writev", lambda descriptor, buffers: os.write(descriptor, b"".join(buffers)[:100]))
    path = write_pack(tmp_path / "x.rec", mixed_records())
    assert path.read_bytes() == whole.read_bytes()


def test_a_million_records_open_without_reading_them(tmp_path: Path) -> None:
    """A sparse file in which only the first and the last record are there: opening must not look for the others."""
    path = write_pack(tmp_path / "x.rec", [record(name="last")])
    data, count = path.read_bytes(), 1_000_000
    tail = bytearray(data)
    tail[16:24] = (count - 1).to_bytes(8, "little")  # its number, behind the part's and half of the image's header
    with path.open("r+b") as stream:
        stream.seek((count - 1) * len(data))
        stream.write(tail)
    with path.with_suffix(".idx").open("wb") as stream:
        stream.writelines(index_line(key, key * len(data)) for key in range(count))
    with PackReader(path) as reader:
        assert len(reader) == count
        assert reader[-1].name == reader[0].name == "last"
        with pytest.raises(DataError, match=r"record 500000: no record starts"):
            reader[500_000]


def test_mxnet_reads_the_pack_record_by_record(tmp_path: Path) -> None:
    mx = import_mxnet()
    written = mixed_records()
    path = write_pack(tmp_path / "x.rec", written)
    theirs = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "r")
    assert theirs.keys == list(range(len(written)))
    for key in (4, 0, 2, 1, 3):
        header, image = mx.recordio.unpack(theirs.read_idx(key))
        assert image.startswith(written[key].image)
        assert len(image) - len(written[key].image) == (2 * 60 if key == 1 else 0)
        assert header.id == key
        assert header.label[2:4].tolist() == [64, 48]
    theirs.close()


def test_image_det_iter_teaches_objects_and_skips_the_rest(tmp_path: Path) -> None:
    """Backgrounds, and images with ignored boxes alone, are passed over; ignored boxes carry the class of padding."""
    mx = import_mxnet()
    written = [each for each in mixed_records() if each.name != "line.jpg"]
    path = write_pack(tmp_path / "x.rec", written)
    iterator = mx.image.ImageDetIter(
        1, (3, 48, 64), path_imgrec=str(path), path_imgidx=str(path.with_suffix(".idx")), last_batch_handle="discard"
    )
    batches = [(batch.data[0].asnumpy()[0], batch.label[0].asnumpy()[0]) for batch in iterator]
    assert len(batches) == 2
    size = np.array([64, 48, 64, 48], np.float32)
    for (pixels, labels), expected in zip(batches, (written[1], written[3]), strict=True):
        taught = labels[labels[:, 0] == 0]
        np.testing.assert_allclose(taught[:, 1:5] * size, expected.boxes[~expected.ignored], rtol=1e-6)
        assert set(labels[:, 0].tolist()) <= {0.0, -1.0}
        assert np.ptp(pixels) > 20
