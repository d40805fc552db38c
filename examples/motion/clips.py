"""Minimal pairs of clips: the last frame and the question are the same, the answers are opposite.

In: a kind of question and a seed. Out: a question, two clips and their answers, with numpy alone. The two clips of a
pair hold the very same frames in another order, and end with the same one: no frame tells them apart, nor does the
set of all frames, so whoever answers both has seen the order of time.
"""

# F frames, 1 + 4k of them; a frame is (side, side, 3) uint8
# A clip goes through nine views: the first is one frame, as the VAE encodes it, and the others two frames each, so that
# one latent step (four frames) holds two views.

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

SIDE = 16
NUM_VIEWS = 9
FRAMES_A_VIEW = 2
NUM_FRAMES = 1 + FRAMES_A_VIEW * (NUM_VIEWS - 1)
NUM_MOVES = NUM_VIEWS - 1  # a clip goes once around a closed path of as many places
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
    """A square of one colour on its way: a centre in pixels for each view, None where it is not seen."""

    side: int
    colour: tuple[int, ...]
    centres: list[tuple[float, float] | None]


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
    ground = rng.integers(0, 40, size=3)
    clips = np.stack([_draw(squares, ground, side) for squares in (first, second)])
    if rng.integers(2):
        clips, answers = clips[::-1].copy(), (answers[1], answers[0])
    return Pair(kind=kind, question=question, clips=clips, answers=answers)


_Made = tuple[str, tuple[list[_Square], list[_Square]], tuple[str, str]]


def _direction(rng: np.random.Generator, side: int) -> _Made:
    """Once around the middle of the screen; which way does it turn?"""
    size, colour = _a_size(rng, side), _a_colour(rng)
    reach, start = (side - size) / 2, int(rng.integers(NUM_MOVES))
    # Clockwise, from the top: corners and the middles of the sides in turn.
    ring = [(0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1)]
    steps = [ring[(start + i) % NUM_MOVES] for i in range(NUM_VIEWS)]
    clockwise = [(side / 2 + right * reach, side / 2 + down * reach) for right, down in steps]
    return "turns: left or right?", _and_back(_Square(side=size, colour=colour, centres=clockwise)), ("right", "left")


def _order(rng: np.random.Generator, side: int) -> _Made:
    """From wall to wall and back to where it was; which wall was touched first?"""
    horizontal, size, colour = bool(rng.integers(2)), _a_size(rng, side), _a_colour(rng)
    across, step = _inside(rng, size, side), (side - size) / (NUM_MOVES / 2)
    start = int(rng.integers(1, NUM_MOVES // 2))
    forth = [_at(horizontal, size / 2 + place * step, across) for place in _to_and_fro(start, 1)]
    question = "first wall: left or right?" if horizontal else "first wall: top or bottom?"
    answers = ("left", "right") if horizontal else ("top", "bottom")
    return question, _and_back(_Square(side=size, colour=colour, centres=forth)), answers


def _faster(rng: np.random.Generator, side: int) -> _Made:
    """A red and a blue square start side by side and go to and fro in two lanes, one three times as fast as the other.

    To and fro are eight moves; moves of one and moves of three visit the same pairs of places, since 3 * 3 = 1 mod 8.
    """
    horizontal, size = bool(rng.integers(2)), _a_size(rng, side)
    lanes = rng.permutation([side / 4, side * 3 / 4])
    start, step = int(rng.integers(0, NUM_MOVES)), (side - size) / (NUM_MOVES / 2)

    def clip(speeds: tuple[int, int]) -> list[_Square]:
        squares = []
        for colour, lane, speed in zip((_RED, _BLUE), lanes, speeds, strict=True):
            centres = [_at(horizontal, size / 2 + place * step, lane) for place in _to_and_fro(start, speed)]
            squares.append(_Square(side=size, colour=colour, centres=centres))
        return squares

    return "faster: red or blue?", (clip((3, 1)), clip((1, 3))), ("red", "blue")


def _to_and_fro(start: int, speed: int) -> list[int]:
    """The place in each view, from 0 at one wall to 4 at the other."""
    return [abs((start + speed * i) % NUM_MOVES - NUM_MOVES // 2) for i in range(NUM_VIEWS)]


def _exit(rng: np.random.Generator, side: int) -> _Made:
    """Out by one side and in again by another, to where it was; by which side did it go out?"""
    size, colour = _a_size(rng, side), _a_colour(rng)
    x, y = (float(value) for value in side / 2 + rng.uniform(-side / 8, side / 8, 2))
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
    """A lamp that is lit in four of the views: in one flash or in three?"""
    size, colour = int(rng.integers(side * 3 // 4, side + 1)), _a_colour(rng)
    centre = (_inside(rng, size, side), _inside(rng, size, side))
    clips = []
    for num_flashes in (1, 3):
        lit = _flashes(rng, num_flashes)
        clips.append([_Square(side=size, colour=colour, centres=[centre if on else None for on in lit])])
    return "flashes: 1 or 3?", (clips[0], clips[1]), ("1", "3")


def _flashes(rng: np.random.Generator, num_flashes: int, num_lit: int = 4) -> list[bool]:
    """Which views are lit; the first and the last one never are, so that the same number of frames is."""
    while True:
        lit = np.zeros(NUM_VIEWS, dtype=bool)
        lit[1 + rng.permutation(NUM_MOVES - 1)[:num_lit]] = True
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
    return tuple(int(value) for value in rng.integers(160, 256, size=3))


def _inside(rng: np.random.Generator, size: int, side: int) -> float:
    return float(rng.uniform(size / 2, side - size / 2))


def _at(horizontal: bool, along: float, across: float) -> tuple[float, float]:
    return (along, across) if horizontal else (across, along)


def _draw(squares: list[_Square], ground: np.ndarray, side: int) -> np.ndarray:
    views = np.empty((NUM_VIEWS, side, side, 3), dtype=np.uint8)
    views[:] = ground
    for square in squares:
        for view, centre in zip(views, square.centres, strict=True):
            if centre is not None:
                columns, rows = (_span(value, square, side) for value in centre)
                view[np.ix_(rows, columns)] = square.colour
    return np.repeat(views, [1] + [FRAMES_A_VIEW] * NUM_MOVES, axis=0)


def _span(centre: float, square: _Square, side: int) -> np.ndarray:
    first = round(centre - square.side / 2)
    span = np.arange(first, first + square.side)
    return span[(span >= 0) & (span < side)]
