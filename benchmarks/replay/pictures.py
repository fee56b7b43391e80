"""Pictures of an episode: an Atari game's frames or a robot, as a strip and as a video.

MuJoCo renders a robot in a process of its own: servers often lack OpenGL, and loading a broken one can end a process.
Where rendering fails, Pillow draws the robot from the side, from the positions of its bodies.
"""

import math
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments.vector import make_environment
from backbench.errors import UserError, first_line
from backbench.files import write_whole

Picture = NDArray[np.uint8]  # (height, width, 3)
WIDTH, HEIGHT = 320, 240  # of a robot's picture
ENLARGED = 3  # a game's pixel is a square with this side
RENDER_SECONDS = 120
FONT = 14
CAPSULE, CYLINDER = 3, 5  # MuJoCo's mjtGeom: shapes with a length along their own z axis
SKY, GROUND, INK = (236, 240, 245), (196, 190, 176), (40, 44, 52)


def game_picture(frame: Picture) -> Picture:
    """A grey frame (height, width) as a picture ``ENLARGED`` times as large."""
    large = frame.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
    return np.repeat(large[:, :, None], 3, axis=2)


def robot_pictures(env_id: str, positions: NDArray[np.float64]) -> tuple[list[Picture], str]:
    """Pictures of a robot at ``positions`` (n, nq), and a text that says how they were made."""
    asked = os.environ.get("MUJOCO_GL", "")
    first = () if asked in ("", "disabled", "disable", "off", "false", "0") else (asked,)
    for backend in dict.fromkeys((*first, "egl", "osmesa")):
        if (rendered := _rendered(env_id, positions, backend)) is not None:
            return rendered, f"rendered by MuJoCo ({backend})"
    return drawn(env_id, positions), "drawn from the positions of the robot's bodies (MuJoCo cannot render here)"


def _rendered(env_id: str, positions: NDArray[np.float64], backend: str) -> list[Picture] | None:
    """Pictures rendered in a fresh process. None when that does not work here."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "positions.npy", positions)
        command = [sys.executable, "-P", "-m", "backbench.benchmarks.replay.pictures", folder, env_id]
        environment = os.environ | {"MUJOCO_GL": backend}
        try:
            subprocess.run(command, env=environment, capture_output=True, timeout=RENDER_SECONDS, check=True)
            frames: Picture = np.load(Path(folder) / "frames.npy", allow_pickle=False)
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
    blank = frames.shape != (len(positions), HEIGHT, WIDTH, 3) or frames.min() == frames.max()
    return None if blank else list(frames)


def _render_into(folder: Path, env_id: str) -> None:
    """The fresh process: positions.npy to frames.npy."""
    import mujoco

    env = make_environment(env_id)
    positions = np.load(folder / "positions.npy", allow_pickle=False)
    frames = np.empty((len(positions), HEIGHT, WIDTH, 3), dtype=np.uint8)
    renderer = mujoco.Renderer(env.model, HEIGHT, WIDTH)
    camera = mujoco.mj_name2id(env.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    for frame, position in zip(frames, positions, strict=True):
        env.data.qpos[:] = position
        mujoco.mj_forward(env.model, env.data)
        renderer.update_scene(env.data, camera=camera)  # -1, the free camera, where there is none
        frame[:] = renderer.render()
    np.save(folder / "frames.npy", frames)


def drawn(env_id: str, positions: NDArray[np.float64]) -> list[Picture]:
    """The robot from the side, x to the right and z up, drawn with Pillow. The view follows its torso."""
    import mujoco

    env = make_environment(env_id)
    model, data = env.model, env.data
    shown = np.flatnonzero(model.geom_bodyid > 0)  # body 0 is the world: the floor
    radii = model.geom_size[shown, 0]
    long = np.isin(model.geom_type[shown], (CAPSULE, CYLINDER))
    half = np.where(long, model.geom_size[shown, 1], 0.0)[:, None]
    colours = [tuple(int(255 * part) for part in rgba[:3]) for rgba in model.geom_rgba[shown]]
    shapes, torsos = [], []
    for position in positions:
        data.qpos[:] = position
        mujoco.mj_kinematics(model, data)
        centre, axis = data.geom_xpos[shown], data.geom_xmat[shown].reshape(-1, 3, 3)[:, :, 2]
        shapes.append(np.stack([centre - half * axis, centre + half * axis], axis=1))  # (geoms, 2 ends, xyz)
        torsos.append(float(data.xpos[1, 0]))
    env.close()
    top = max(float((ends[:, :, 2].max(axis=1) + radii).max()) for ends in shapes)
    scale = HEIGHT / (max(top, 1.0) + 0.45)  # pixels in a metre, with air above and ground below
    return [_side_view(ends, radii, colours, x, scale) for ends, x in zip(shapes, torsos, strict=True)]


def _side_view(ends: NDArray[Any], radii: NDArray[Any], colours: Sequence[Any], torso: float, scale: float) -> Picture:
    """One picture. It is drawn twice as large and then reduced: Pillow's own lines have jagged edges."""
    from PIL import Image, ImageDraw, ImageFont

    scale, width, height = 2 * scale, 2 * WIDTH, 2 * HEIGHT
    image = Image.new("RGB", (width, height), SKY)
    pen = ImageDraw.Draw(image)
    floor = height - 0.25 * scale

    def pixel(x: float, z: float) -> tuple[float, float]:
        return width / 2 + (x - torso) * scale, floor - z * scale

    pen.rectangle((0, floor, width, height), fill=GROUND)
    pen.line((0, floor, width, floor), fill=INK, width=2)
    reach = width / 2 / scale
    for metre in range(math.floor(torso - reach), math.ceil(torso + reach) + 1):  # marks show that it moves
        x, _ = pixel(metre, 0)
        pen.line((x, floor, x, floor + 14), fill=INK, width=2)
        pen.text((x + 5, floor + 6), f"{metre} m", fill=INK, font=ImageFont.load_default(18))
    for i in np.argsort(-ends[:, :, 1].mean(axis=1), kind="stable"):  # the farthest first
        for grow, colour in ((3, INK), (0, colours[i])):
            (x0, y0), (x1, y1) = (pixel(end[0], end[2]) for end in ends[i])
            r = radii[i] * scale + grow
            pen.line((x0, y0, x1, y1), fill=colour, width=max(1, round(2 * r)))
            for x, y in ((x0, y0), (x1, y1)):
                pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def write_strip(path: Path, title: str, pictures: Sequence[Picture], captions: Sequence[str]) -> None:
    """Write a PNG of pictures in rows, each above its caption. All captions have equally many lines."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(FONT)
    height, width = pictures[0].shape[:2]
    line, margin = FONT + 5, 8
    columns = math.ceil(math.sqrt(1.3 * len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    across = columns * (width + margin) + margin
    heading = [part for row in title.splitlines() for part in textwrap.wrap(row, (across - 2 * margin) * 2 // FONT)]
    head = margin + line * len(heading) + margin
    cell = height + line * (1 + captions[0].count("\n")) + 2 * margin
    image = Image.new("RGB", (across, head + rows * cell), "white")
    pen = ImageDraw.Draw(image)
    pen.multiline_text((margin, margin), "\n".join(heading), fill=INK, font=font, spacing=5)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = margin + number % columns * (width + margin), head + number // columns * cell
        image.paste(Image.fromarray(picture), (x, y))
        pen.multiline_text((x, y + height + 3), caption, fill=INK, font=font, spacing=5)
    _write(path, lambda temporary: image.save(temporary, format="PNG"))


def write_video(stem: Path, pictures: Sequence[Picture], seconds: float) -> Path:
    """Write ``stem``.mp4 where the package imageio-ffmpeg is installed, else .gif. A picture lasts ``seconds``."""
    try:
        import imageio_ffmpeg  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        path, write = stem.with_name(f"{stem.name}.gif"), _write_gif
    else:
        path, write = stem.with_name(f"{stem.name}.mp4"), partial(_write_mp4, imageio_ffmpeg)
    _write(path, lambda temporary: write(temporary, pictures, seconds))
    return path


def _write(path: Path, content: Callable[[Path], object]) -> None:
    """Raises UserError if the file cannot be written."""
    try:
        write_whole(path, content)
    except Exception as error:  # a full disk is OSError, or an encoder's own error
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"cannot write {path}: {reason}; free some space or choose another --out") from error


def _write_gif(path: Path, pictures: Sequence[Picture], seconds: float) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(picture).quantize(64, dither=Image.Dither.NONE) for picture in pictures)
    times = [round(1000 * seconds)] * len(pictures)
    times[-1] += 1000  # the end stays visible
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=times, loop=0)


def _write_mp4(ffmpeg: Any, path: Path, pictures: Sequence[Picture], seconds: float) -> None:
    height, width = (side // 2 * 2 for side in pictures[0].shape[:2])  # the codec wants even sides
    options = {"fps": 1 / seconds, "macro_block_size": 2, "output_params": ["-f", "mp4"]}
    writer = ffmpeg.write_frames(str(path), (width, height), **options)
    writer.send(None)
    for picture in pictures:
        writer.send(np.ascontiguousarray(picture[:height, :width]))
    writer.close()


if __name__ == "__main__":
    _render_into(Path(sys.argv[1]), sys.argv[2])
