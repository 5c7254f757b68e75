"""Six backgrounds in muted colours, determined by a seed.

The grain is random bytes enlarged by Pillow's resize, which uses integer arithmetic and is the same on every CPU.
"""

import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageOps

from pipelines.datasets.scenes.world import HEIGHT, WIDTH

Rgb = tuple[int, int, int]


def draw_background(name: str, seed: int) -> Image.Image:
    """Returns the background, RGB, WIDTH x HEIGHT; its brightness varies with the seed."""
    rng = random.Random(f"background/{seed}")  # noqa: S311 - pictures, not secrets
    image = _PAINTERS[name](rng)
    light = rng.randint(88, 108)
    return image.point([min(255, value * light // 100) for value in range(256)] * 3)


def _grain(rng: random.Random, cell_x: int, cell_y: int) -> Image.Image:
    """Returns grey noise with spots of about `cell_x` x `cell_y` pixels."""
    size = (WIDTH // cell_x + 2, HEIGHT // cell_y + 2)
    spots = Image.frombytes("L", size, rng.randbytes(size[0] * size[1]))
    return spots.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def _tinted(grey: Image.Image, dark: Rgb, bright: Rgb) -> Image.Image:
    return ImageOps.colorize(grey, dark, bright)


def _grass(rng: random.Random) -> Image.Image:
    image = _tinted(_grain(rng, 30, 30), (84, 108, 58), (124, 142, 84))
    draw = ImageDraw.Draw(image)
    for _ in range(520):
        x, y = rng.randrange(WIDTH), rng.randrange(HEIGHT)
        tone = rng.randint(-22, 26)
        end = (x + rng.randint(-4, 4), y - rng.randint(6, 13))
        draw.line([(x, y), end], fill=(98 + tone, 124 + tone, 66 + tone))
    return image


def _wood(rng: random.Random) -> Image.Image:
    image = _tinted(_grain(rng, 60, 3), (138, 103, 70), (186, 149, 108))
    draw = ImageDraw.Draw(image)
    y = rng.randint(20, 50)
    while y < HEIGHT:
        draw.line([(0, y), (WIDTH, y)], fill=(92, 66, 44), width=2)
        joint = rng.randrange(WIDTH)
        draw.line([(joint, y), (joint, y + 58)], fill=(104, 76, 52))
        y += 58
    return image


def _bricks(rng: random.Random) -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT), (172, 164, 154))
    draw = ImageDraw.Draw(image)
    for row, y in enumerate(range(-rng.randrange(20), HEIGHT, 22)):
        for x in range(-rng.randrange(6) - 24 * (row % 2), WIDTH, 48):
            tone = rng.randint(-14, 14)
            draw.rectangle([x, y, x + 44, y + 18], fill=(146 + tone, 98 + tone, 84 + tone))
    return Image.blend(image, _tinted(_grain(rng, 5, 5), (110, 84, 74), (176, 140, 126)), 0.25)


def _night(rng: random.Random) -> Image.Image:
    fall = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    clouds = Image.blend(fall, _grain(rng, 70, 40), 0.3)
    image = _tinted(clouds, (16, 20, 46), (62, 66, 110))
    draw = ImageDraw.Draw(image)
    for _ in range(90):
        x, y, glow = rng.randrange(WIDTH), rng.randrange(HEIGHT), rng.randint(120, 235)
        draw.ellipse([x, y, x + glow // 180, y + glow // 180], fill=(glow, glow, glow - 10))
    return image


def _sand(rng: random.Random) -> Image.Image:
    ripples = Image.blend(_grain(rng, 48, 10), _grain(rng, 3, 3), 0.3)
    image = _tinted(ripples, (190, 168, 130), (228, 208, 172))
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, tone = rng.randrange(WIDTH), rng.randrange(HEIGHT), rng.randint(-20, 20)
        draw.ellipse([x, y, x + rng.randint(2, 4), y + 2], fill=(168 + tone, 150 + tone, 124 + tone))
    return image


def _sea(rng: random.Random) -> Image.Image:
    swell = Image.blend(Image.linear_gradient("L").resize((WIDTH, HEIGHT)), _grain(rng, 44, 7), 0.55)
    image = _tinted(swell, (112, 160, 168), (70, 116, 136))
    draw = ImageDraw.Draw(image)
    for _ in range(70):
        x, y, long = rng.randrange(-10, WIDTH), rng.randrange(HEIGHT), rng.randint(12, 26)
        draw.arc([x, y, x + long, y + 8], 200, 340, fill=(158, 196, 200))
    return image


_PAINTERS: dict[str, Callable[[random.Random], Image.Image]] = {
    "grass": _grass,
    "wood": _wood,
    "bricks": _bricks,
    "night": _night,
    "sand": _sand,
    "sea": _sea,
}
