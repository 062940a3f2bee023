"""The sound of a video, put under the pictures of another."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from typing import Any

from lffd.errors import DataError
from lffd.hints import require

COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})
"""Codings that an MP4 takes as they are; any other becomes AAC."""


def add_sound(pictures: Path, source: Path, target: Path) -> bool:
    """Write an MP4 with the pictures of one video and the sound of another, cut where the pictures end.

    Args:
        pictures: an MP4, whose frames are copied as they are.
        source: where the sound comes from; its first frame goes with the first picture.
        target: the new file.

    Returns:
        Whether there is any sound; without, nothing is written.

    Raises:
        EngineError: when PyAV is missing (extra `video`).
        DataError: when a file cannot be read, or the new one not be written.
    """
    av = require("av", "video")
    try:
        with av.open(str(source.resolve())) as heard:  # a full path is never taken for an address
            if not heard.streams.audio:
                return False
            with av.open(str(pictures.resolve())) as seen, av.open(str(target), "w", format="mp4") as output:
                _join(output, seen, heard)
        return True
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"{source}: its sound cannot be kept ({error})") from error


def _join(output: Any, seen: Any, heard: Any) -> None:
    """Write the packets of both, ordered by time."""
    picture, sound = seen.streams.video[0], heard.streams.audio[0]
    end = float(picture.duration * picture.time_base)
    first = heard.streams.video[0] if heard.streams.video else sound
    start = float((first.start_time or 0) * first.time_base)
    shown = output.add_stream_from_template(picture)
    copied = sound.codec_context.name in COPIED
    # Some files give a number of channels alone, which the coder does not take.
    layout = {1: "mono", 2: "stereo"}.get(sound.channels, sound.layout.name)
    coder = {"rate": sound.rate, "layout": layout}
    played = output.add_stream_from_template(sound) if copied else output.add_stream("aac", **coder)
    packets = _copies(heard, sound, played, start, end) if copied else _coded(heard, sound, played, start, end)
    for packet in merge(_copies(seen, picture, shown, 0.0, end), packets, key=_moment):
        output.mux(packet)


def _moment(packet: Any) -> float:
    return float(packet.dts * packet.time_base) if packet.dts is not None else 0.0


def _copies(container: Any, stream: Any, target: Any, start: float, end: float) -> Iterator[Any]:
    """Yield the packets of a stream between two times, for another file that counts from 0."""
    offset = round(start / stream.time_base)
    for packet in container.demux(stream):
        if packet.dts is None or packet.pts is None:
            continue
        packet.pts -= offset
        packet.dts -= offset
        if _moment(packet) >= end:
            return
        if packet.pts >= 0:
            packet.stream = target
            yield packet


def _coded(container: Any, stream: Any, target: Any, start: float, end: float) -> Iterator[Any]:
    """Yield the packets of the sound between two times, coded anew."""
    for frame in container.decode(stream):
        moment = float(frame.pts * frame.time_base) - start
        if moment >= end:
            break
        if moment >= 0:
            frame.pts = round(moment / frame.time_base)
            yield from target.encode(frame)
    yield from target.encode(None)
