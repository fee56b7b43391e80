"""Screens to frames in NumPy alone, bit for bit as in the emulator's own vector environment.

There OpenCV shrinks 210 x 160 pixels to 84 x 84 by the area that each new pixel covers. The areas are ratios of small
integers: 2 new rows cover 5 old ones, 21 new columns 40 old ones. So float32 holds the means exactly. If a mean is
halfway between two greys, the result depends on OpenCV's rounding errors. These few pixels are computed again, in its
order of single-precision sums.
"""

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH, SIZE = 210, 160, 84
COVER_ROWS, COVER_COLUMNS = 5, 40  # parts of a new pixel's side; an old one has 2 and 21 of them
BLOCK = 8  # screens at once, so that intermediate results stay in the processor's cache

Screens = NDArray[np.uint8]


def _overlap(old: int, new: int) -> NDArray[np.int64]:
    """Length that old pixel i and new pixel j share, on a line of ``old * new`` parts: (old, new)."""
    i, j = np.arange(old)[:, None], np.arange(new)
    shared: NDArray[np.int64] = np.minimum((i + 1) * new, (j + 1) * old) - np.maximum(i * new, j * old)
    return np.maximum(shared, 0)


def _taps(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First old pixel of each new one (new,), weights of that and the next two (new, 3), rounded as in OpenCV."""
    scale = old / new
    shares = _overlap(old, new).T / new
    first = np.argmax(shares > 0, axis=1)
    picked = np.minimum(first[:, None] + np.arange(3), old - 1)
    weights = np.take_along_axis(shares, picked, axis=1) / scale
    weights[first[:, None] + np.arange(3) >= old] = 0
    return first, weights.astype(np.float32)


# Share of each of 40 old columns in each of the 21 new ones, over all parts of a pixel: float32 (40, 21).
COLUMNS = (_overlap(COVER_COLUMNS, 21) / np.float64(COVER_ROWS * COVER_COLUMNS)).astype(np.float32)
ROW_TAPS, COLUMN_TAPS = _taps(HEIGHT, SIZE), _taps(WIDTH, SIZE)


def grey_from_rgb(rgb: Screens) -> Screens:
    """The emulator's greys of a screen in colour, uint8 (..., 3) to (...): 0.2989 R + 0.5870 G + 0.1140 B, rounded.

    Equal to the emulator's grey screen on all colours of its palette. Other colours, as in a lossy image, get the same
    weights.
    """
    if rgb.dtype != np.uint8 or rgb.shape[-1:] != (3,):
        raise ValueError(f"colours are {rgb.dtype} {rgb.shape}, expected uint8 (..., 3)")
    sums = rgb @ np.array([2989, 5870, 1140], dtype=np.uint32)
    return ((sums + 5000) // 10000).astype(np.uint8)


def area_resize(screens: Screens) -> Screens:
    """Shrink grey screens by area, uint8 (n, 210, 160) to (n, 84, 84), as OpenCV's ``INTER_AREA`` does."""
    if screens.dtype != np.uint8 or screens.shape[1:] != (HEIGHT, WIDTH):
        raise ValueError(f"screens are {screens.dtype} {screens.shape}, expected uint8 (n, {HEIGHT}, {WIDTH})")
    out = np.empty((len(screens), SIZE, SIZE), dtype=np.uint8)
    for first in range(0, len(screens), BLOCK):
        _shrink(screens[first : first + BLOCK], out[first : first + BLOCK])
    return out


def _shrink(screens: Screens, out: Screens) -> None:
    five = screens.reshape(len(screens), SIZE // 2, 5, WIDTH)
    middle = five[:, :, 2].astype(np.uint16)
    rows = np.empty((len(screens), SIZE // 2, 2, WIDTH), dtype=np.float32)
    for row, (one, other) in enumerate(((0, 1), (3, 4))):
        half = np.add(five[:, :, one], five[:, :, other], dtype=np.uint16)
        half += half
        half += middle
        rows[:, :, row] = half
    means = rows.reshape(-1, COVER_COLUMNS) @ COLUMNS
    nearest = np.rint(means)
    out[...] = nearest.reshape(out.shape)
    means -= nearest
    np.abs(means, out=means)
    # Means are multiples of 1/200, so rounding cannot hide a halfway one.
    if means.max() > 0.4985:
        ties = np.nonzero(means.reshape(out.shape) > 0.4985)
        out[ties] = _as_opencv(screens, *ties)


def _as_opencv(
    screens: Screens, index: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """New pixels (y, x) of the screens at ``index``, summed in single precision: along each row, then over rows."""
    (top, row_weights), (left, column_weights) = ROW_TAPS, COLUMN_TAPS
    total = np.zeros(len(y), dtype=np.float32)
    for i in range(3):
        row = np.minimum(top[y] + i, HEIGHT - 1)
        along = np.zeros(len(y), dtype=np.float32)
        for j in range(3):
            column = np.minimum(left[x] + j, WIDTH - 1)
            along += screens[index, row, column].astype(np.float32) * column_weights[x, j]
        total += along * row_weights[y, i]
    return np.rint(total).astype(np.uint8)
