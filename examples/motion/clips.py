"""Minimal pairs of clips: the last frame and the question are the same, the answers are opposite.

In: a kind of question and a seed. Out: a question, two clips and their answers, with numpy alone. The two clips of a
pair hold the very same frames in another order, and end with the same one: no frame tells them apart, nor does the
set of all frames, so whoever answers both has seen the order of time.
"""

# F frames, 1 + 4k of them; a frame is (side, side, 3) uint8

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

NUM_FRAMES = 9
SIDE = 32
NUM_MOVES = NUM_FRAMES - 1  # a clip goes once around a closed path of as many places
_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
_OUTWARD = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
_RED, _BLUE = (230, 50, 50), (60, 90, 240)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two clips with one last frame.

    Args:
        kind: out of `KINDS`.
        question: what is asked of both.
        clips: (2, F, side, side, 3), uint8.
        answers: one a clip; never equal.
    """

    kind: str
    question: str
    clips: np.ndarray
    answers: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Square:
    """A square of one colour on its way: a centre in pixels for each frame, None where it is not seen.

    Args:
        comes_round: whether what leaves on one side of the screen is seen on the other.
    """

    side: int
    colour: tuple[int, ...]
    centres: list[tuple[float, float] | None]
    comes_round: bool = False


def make_pair(kind: str, seed: int, *, side: int = SIDE) -> Pair:
    """Make one pair; the same kind, seed and side give the same bits.

    Args:
        kind: out of `KINDS`.
        seed: any integer from 0; places, colours, sizes and which clip comes first follow from it.
        side: height and width of a frame in pixels, a multiple of 8.

    Raises:
        ValueError: for an unknown kind.
    """
    if kind not in _MAKERS:
        raise ValueError(f"no kind of question is named {kind!r}; there are {', '.join(KINDS)}")
    rng = np.random.default_rng([KINDS.index(kind), seed])
    question, (first, second), answers = _MAKERS[kind](rng, side)
    ground = rng.integers(0, 60, size=3)
    clips = np.stack([_draw(squares, ground, side) for squares in (first, second)])
    if rng.integers(2):
        clips, answers = clips[::-1].copy(), (answers[1], answers[0])
    return Pair(kind=kind, question=question, clips=clips, answers=answers)


_Made = tuple[str, tuple[list[_Square], list[_Square]], tuple[str, str]]


def _direction(rng: np.random.Generator, side: int) -> _Made:
    """Once around the screen: a square that leaves on one side comes back on the other."""
    horizontal, size, colour = bool(rng.integers(2)), _a_size(rng, side), _a_colour(rng)
    start, across = rng.uniform(0, side), _inside(rng, size, side)
    forth = [_at(horizontal, (start + i * side / NUM_MOVES) % side, across) for i in range(NUM_FRAMES)]
    question = "left or right?" if horizontal else "up or down?"
    answers = ("right", "left") if horizontal else ("down", "up")
    return question, _and_back(_Square(side=size, colour=colour, centres=forth, comes_round=True)), answers


def _order(rng: np.random.Generator, side: int) -> _Made:
    """From wall to wall and back to where it was; which wall was touched first?"""
    horizontal, size, colour = bool(rng.integers(2)), _a_size(rng, side), _a_colour(rng)
    across, step = _inside(rng, size, side), (side - size) / (NUM_MOVES / 2)
    start = int(rng.integers(1, NUM_MOVES // 2))
    places = [abs((start + i) % NUM_MOVES - NUM_MOVES // 2) for i in range(NUM_FRAMES)]  # 0 to 4: wall to wall
    forth = [_at(horizontal, size / 2 + place * step, across) for place in places]
    question = "first wall: left or right?" if horizontal else "first wall: top or bottom?"
    answers = ("left", "right") if horizontal else ("top", "bottom")
    return question, _and_back(_Square(side=size, colour=colour, centres=forth)), answers


def _faster(rng: np.random.Generator, side: int) -> _Made:
    """A red and a blue square in two lanes, one three times as fast as the other.

    On a ring of eight places, steps of one and steps of three visit the same pairs of places, since 3 * 3 = 1 mod 8.
    """
    horizontal, size = bool(rng.integers(2)), _a_size(rng, side)
    lanes = rng.permutation([side / 4, side * 3 / 4]) + rng.uniform(-side / 16, side / 16, 2)
    starts, ways = rng.uniform(0, side, 2), rng.choice([-1, 1], 2)

    def clip(speeds: tuple[int, int]) -> list[_Square]:
        squares = []
        for colour, lane, start, way, speed in zip((_RED, _BLUE), lanes, starts, ways, speeds, strict=True):
            along = [(start + way * (speed * i % NUM_MOVES) * side / NUM_MOVES) % side for i in range(NUM_FRAMES)]
            centres = [_at(horizontal, x, lane) for x in along]
            squares.append(_Square(side=size, colour=colour, centres=centres, comes_round=True))
        return squares

    return "faster: red or blue?", (clip((3, 1)), clip((1, 3))), ("red", "blue")


def _exit(rng: np.random.Generator, side: int) -> _Made:
    """Out by one side and in again by another, to where it was; by which side did it go out?"""
    size, colour = _a_size(rng, side), _a_colour(rng)
    x, y = _inside(rng, size, side), _inside(rng, size, side)
    names = [str(name) for name in rng.permutation(sorted(_OUTWARD))[:2]]
    ways = []
    for name in names:
        right, down = _OUTWARD[name]
        # Three moves to the edge's outside, from wherever the square is.
        gap = {"left": x, "right": side - x, "top": y, "bottom": side - y}[name] + size / 2
        ways.append([(x + right * gap * i / 3, y + down * gap * i / 3) for i in range(3)])
    out, back = ways
    centres = [*out, None, None, None, *reversed(back)]
    question = f"out by: {' or '.join(sorted(names))}?"
    return question, _and_back(_Square(side=size, colour=colour, centres=centres)), (names[0], names[1])


def _count(rng: np.random.Generator, side: int) -> _Made:
    """A lamp that is lit in four of the frames: in one flash or in three?"""
    size, colour = int(rng.integers(side // 2, side * 3 // 4 + 1)), _a_colour(rng)
    centre = (_inside(rng, size, side), _inside(rng, size, side))
    clips = []
    for num_flashes in (1, 3):
        lit = _flashes(rng, num_flashes)
        clips.append([_Square(side=size, colour=colour, centres=[centre if on else None for on in lit])])
    return "flashes: 1 or 3?", (clips[0], clips[1]), ("1", "3")


def _flashes(rng: np.random.Generator, num_flashes: int, num_lit: int = 4) -> list[bool]:
    """Which frames are lit; the last one never is."""
    while True:
        lit = np.zeros(NUM_FRAMES, dtype=bool)
        lit[rng.permutation(NUM_MOVES)[:num_lit]] = True
        if int((lit[:-1] & ~lit[1:]).sum()) == num_flashes:
            return [bool(on) for on in lit]


_MAKERS: dict[str, Callable[[np.random.Generator, int], _Made]] = {
    "direction": _direction,
    "order": _order,
    "faster": _faster,
    "exit": _exit,
    "count": _count,
}
KINDS = tuple(_MAKERS)


def _and_back(square: _Square) -> tuple[list[_Square], list[_Square]]:
    """A closed path, and the same path backwards: the same first and last frame."""
    return [square], [replace(square, centres=square.centres[::-1])]


def _a_size(rng: np.random.Generator, side: int) -> int:
    return int(rng.integers(side * 3 // 8, side // 2 + 1))


def _a_colour(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(110, 256, size=3))


def _inside(rng: np.random.Generator, size: int, side: int) -> float:
    return float(rng.uniform(size / 2, side - size / 2))


def _at(horizontal: bool, along: float, across: float) -> tuple[float, float]:
    return (along, across) if horizontal else (across, along)


def _draw(squares: list[_Square], ground: np.ndarray, side: int) -> np.ndarray:
    clip = np.empty((NUM_FRAMES, side, side, 3), dtype=np.uint8)
    clip[:] = ground
    for square in squares:
        for frame, centre in zip(clip, square.centres, strict=True):
            if centre is not None:
                columns, rows = (_span(value, square, side) for value in centre)
                frame[np.ix_(rows, columns)] = square.colour
    return clip


def _span(centre: float, square: _Square, side: int) -> np.ndarray:
    first = round(centre - square.side / 2)
    span = np.arange(first, first + square.side)
    return span % side if square.comes_round else span[(span >= 0) & (span < side)]
