"""Digits as if written on paper and photographed: for a test of README, and for its picture."""

import numpy as np

PENS = (0.5, 0.5, 0.52), (0.15, 0.2, 0.6), (0.1, 0.1, 0.12)  # pencil, blue, black, in RGB


def photograph(ink, size, random):
    """Return uint8 pixels [height, width, 3] of paper with ink on it, [28, 28] from 0 to 1.

    The digit is turned by up to 8 degrees, in a pencil, a blue or a black pen, thin or thick, and
    35 to 80 % as large as the picture. The light falls off by up to 45 % from one side to the
    other, and towards the corners; the sensor adds noise.
    """
    down, right = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    scale = random.uniform(0.35, 0.8) * min(size) / 28
    (y, x), angle = random.uniform(-0.2, 0.2, 2), np.radians(random.uniform(-8, 8))
    y, x = (down - y) * size[0] / 2 / scale, (right - x) * size[1] / 2 / scale
    turned = y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)
    ink = np.pad(ink, 1, 'constant')  # far from the digit, its border stands for the paper
    middle, last = (len(ink) - 1) / 2, len(ink) - 1.1
    ink = interpolate(ink, *(np.clip(middle + z, 0, last) for z in turned))
    stroke = random.uniform(0.35, 0.65)  # the ink needed for a stroke: the less, the thicker
    ink = np.clip((ink - stroke) * scale / 2 + 0.5, 0, 1)[:, :, np.newaxis]

    side = random.uniform(0, 2 * np.pi)
    far = (down * np.sin(side) + right * np.cos(side)) / (abs(np.sin(side)) + abs(np.cos(side)))
    light = 1 - random.uniform(0, 0.45) * (1 + far) / 2
    light = light - random.uniform(0, 0.12) * (down**2 + right**2)
    paper = random.uniform(0.75, 0.97) - np.array([0, 0.01, random.uniform(0, 0.1)])
    colours = paper * (1 - ink * (1 - np.array(PENS[random.randint(3)])))
    noise = random.normal(0, random.uniform(0.005, 0.03), colours.shape)
    return np.uint8(255 * np.clip(light[:, :, np.newaxis] * colours + noise, 0, 1))


def interpolate(image, y, x):
    """Return an image's values at points between its pixels."""
    top, left = y.astype(int), x.astype(int)
    y, x = y - top, x - left
    upper = image[top, left] * (1 - x) + image[top, left + 1] * x
    lower = image[top + 1, left] * (1 - x) + image[top + 1, left + 1] * x
    return upper * (1 - y) + lower * y
