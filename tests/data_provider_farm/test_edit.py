"""Merging, splitting, shuffling and reindexing packs."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_provider_farm.edit import Merge, Options, Reindex, Shuffle, Split, main
from data_provider_farm.pack_format.packed_file import PackReader
from lffd.errors import DataError, UsageError
from lffd.records import Record
from tests.data_provider_farm.samples import mixed_records, record, same, write_pack


def read(path: Path) -> list[Record]:
    with PackReader(path) as reader:
        return list(reader)


def numbered(path: Path, count: int) -> Path:
    return write_pack(path, [record([(i % 50, 0, 60, 40)], name=f"{i}.jpg", seed=i) for i in range(count)])


def test_merge_keeps_every_record_as_it_is(tmp_path: Path) -> None:
    one = write_pack(tmp_path / "one.rec", mixed_records())
    two = numbered(tmp_path / "two.rec", 7)
    main(Options(Merge((two, one), tmp_path / "out.rec")))
    assert all(map(same, read(tmp_path / "out.rec"), read(two) + read(one)))
    assert len(read(tmp_path / "out.rec")) == 12


@pytest.mark.parametrize(("share", "count"), [(0.25, 5), (0.5, 10), (0.99, 20), (0.03, 1)])
def test_split_by_share_divides_without_loss(tmp_path: Path, share: float, count: int) -> None:
    pack = numbered(tmp_path / "x.rec", 21 if share == 0.99 else 20)
    first, second = tmp_path / "a.rec", tmp_path / "b.rec"
    if share == 0.99:
        with pytest.raises(UsageError, match="would be empty"):
            main(Options(Split(pack, first, second, share=share)))
        return
    main(Options(Split(pack, first, second, share=share, seed=3)))
    left, right = [each.name for each in read(first)], [each.name for each in read(second)]
    assert len(left) == count
    everything = [each.name for each in read(pack)]
    assert sorted(left + right) == sorted(everything)
    assert left == [name for name in everything if name in set(left)]
    before = first.read_bytes()
    main(Options(Split(pack, first, second, share=share, seed=3, overwrite=True)))
    assert first.read_bytes() == before
    if count > 1:
        main(Options(Split(pack, first, second, share=share, seed=4, overwrite=True)))
        assert first.read_bytes() != before


def test_split_by_list(tmp_path: Path) -> None:
    pack = numbered(tmp_path / "x.rec", 10)
    names = tmp_path / "names.txt"
    names.write_text("7.jpg\n\n2.jpg\n")
    first, second = tmp_path / "a.rec", tmp_path / "b.rec"
    main(Options(Split(pack, first, second, names=names)))
    assert [each.name for each in read(first)] == ["2.jpg", "7.jpg"]
    assert len(read(second)) == 8
    names.write_text("7.jpg\nseven.jpg\n")
    with pytest.raises(DataError, match=r"names\.txt:2: .* has no image 'seven\.jpg'"):
        main(Options(Split(pack, first, second, names=names, overwrite=True)))
    assert len(read(second)) == 8


def test_shuffle_depends_on_the_seed_alone(tmp_path: Path) -> None:
    pack = numbered(tmp_path / "x.rec", 30)
    orders = []
    for output, seed in (("a", 1), ("b", 1), ("c", 2)):
        main(Options(Shuffle(pack, tmp_path / f"{output}.rec", seed=seed)))
        orders.append([each.name for each in read(tmp_path / f"{output}.rec")])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(each.name for each in read(pack))
    by_name = {each.name: each for each in read(pack)}
    assert all(same(each, by_name[each.name]) for each in read(tmp_path / "a.rec"))


@pytest.mark.parametrize("bad", [None, b"", b"rubbish"])
def test_reindex_makes_a_lost_or_damaged_index_again(tmp_path: Path, bad: bytes | None) -> None:
    pack = write_pack(tmp_path / "x.rec", mixed_records())
    index = tmp_path / "x.idx"
    good = index.read_bytes()
    if bad is None:
        index.unlink()
    else:
        index.write_bytes(bad)
    with pytest.raises(DataError, match="edit reindex"):
        PackReader(pack)
    main(Options(Reindex(pack)))
    assert index.read_bytes() == good


def test_reindex_does_not_hide_damage(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "x.rec", mixed_records())
    pack.write_bytes(pack.read_bytes()[:-5])
    with pytest.raises(DataError, match="damaged after 4 whole records"):
        main(Options(Reindex(pack)))
    with pytest.raises(DataError, match="cannot be read"):
        main(Options(Reindex(tmp_path / "none.rec")))


def test_packs_are_not_written_over_themselves(tmp_path: Path) -> None:
    pack = numbered(tmp_path / "x.rec", 5)
    before = pack.read_bytes()
    other = tmp_path / "y.rec"
    commands: list[Merge | Split | Shuffle] = [
        Merge((pack, pack), pack, overwrite=True),
        Split(pack, pack, other, share=0.5, overwrite=True),
        Split(pack, other, other, share=0.5),
        Shuffle(pack, tmp_path / "." / "x.rec", overwrite=True),
    ]
    for command in commands:
        with pytest.raises(UsageError, match="cannot be written over"):
            main(Options(command))
    assert pack.read_bytes() == before


@pytest.mark.parametrize(
    ("share", "names", "message"),
    [(None, None, "either"), (0.5, Path("x"), "either"), (0.0, None, "above 0"), (1.5, None, "above 0")],
)
def test_split_needs_one_way_to_choose(tmp_path: Path, share: float | None, names: Path | None, message: str) -> None:
    pack = numbered(tmp_path / "x.rec", 5)
    with pytest.raises(UsageError, match=message):
        main(Options(Split(pack, tmp_path / "a.rec", tmp_path / "b.rec", share=share, names=names)))


def test_merge_needs_two(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two"):
        main(Options(Merge((numbered(tmp_path / "x.rec", 2),), tmp_path / "y.rec")))
