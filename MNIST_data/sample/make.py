"""Draw a small stand-in for MNIST: 18,000 training and 2,000 test images of handwritten digits.

python MNIST_data/sample/make.py               # draws the files beside this script again
python MNIST_data/sample/make.py --out FOLDER

Each digit is a pen that follows a few curves. A writer has a pen, a slant and so on, writes each
digit once in one of the shapes that people give it, and does so a little unsteadily. The writers
of the test images write none of the training images. The four files have MNIST's own names and
format, and as in MNIST, a digit is scaled to fit a box of 20 x 20 pixels, with its centre of mass
at the centre of the image; MNIST_data/README.md says more.

NumPy is the only requirement, and the pixels are the same with every version of it and on every
processor. To keep that so, all randomness is from RandomState.random_sample, whose stream is
frozen, and floats meet only + - * / sqrt and comparison, element by element, which IEEE 754
defines to the last bit. exp, sin, log, matrix products and sums of floats differ between builds.
"""

import argparse
import gzip
import os
import struct

import numpy as np

FOLDER = os.path.dirname(os.path.abspath(__file__))
SEED = 1998
SPLITS = [('train', 18000), ('t10k', 2000)]

SIZE = 28
BOX = 20
STEPS = 18  # pen positions from one point of a curve to the next
EDGE_WIDTH = 1.2  # pixels over which a line fades from black to white
HABITS = 10  # numbers that make a hand: tilt, width, slant, pen, and six that bend x and y

# The shapes that people give each digit, from 0 to 9, with how common each shape is. A shape is
# the x,y points that the pen passes, y downward: "/" makes the point before it a corner, and "|"
# lifts the pen.
SHAPES = [
    [
        (4, '52,2 22,14 8,40 10,72 32,97 62,92 84,64 82,30 60,5 48,2'),
        (3, '66,8 42,2 18,26 10,64 28,96 56,92 76,58 74,22 58,4 40,10'),
        (2, '44,6 20,30 14,66 34,97 66,88 82,52 70,14 36,1'),
    ],
    [
        (10, '50,0 51,50 50,100'),
        (2, '40,24 47,13 54,0 / 53,50 52,100'),
        (1, '38,23 47,12 55,0 / 55,50 54,98 | 20,99 54,97 88,98'),
    ],
    [
        (4, '12,24 26,6 52,0 76,16 68,44 40,74 10,97 / 36,94 64,95 92,97'),
        (3, '12,20 36,2 66,6 74,30 56,64 28,92 10,92 16,78 40,84 66,97 92,88'),
        (2, '16,18 42,0 72,12 70,40 44,72 12,96 / 34,86 62,97 92,84'),
    ],
    [
        (4, '10,16 40,0 72,8 72,32 36,47 / 68,52 84,74 64,96 32,100 6,86'),
        (2, '10,14 44,0 74,16 62,40 36,50 33,44 50,43 78,60 74,88 42,100 8,88'),
        (1, '12,5 44,3 78,3 / 58,24 40,42 / 68,46 82,70 66,94 34,99 8,84'),
    ],
    [
        (4, '18,3 12,28 8,54 / 48,56 94,50 | 72,4 69,36 66,68 62,100'),
        (1, '66,0 36,32 4,62 / 50,62 94,60 | 66,2 65,34 64,68 62,100'),
        (3, '12,6 6,36 24,56 56,52 82,36 | 84,3 78,34 72,68 66,100'),
    ],
    [
        (3, '26,5 22,24 20,44 / 48,38 76,54 74,82 46,99 10,90 | 26,5 56,4 88,1'),
        (3, '86,3 56,4 30,5 / 24,24 20,42 / 50,38 78,56 70,88 38,100 8,88'),
        (2, '84,6 52,2 26,16 30,38 62,52 78,72 60,95 32,99 8,88'),
    ],
    [
        (3, '68,2 40,20 18,54 18,86 44,100 72,88 74,64 50,54 26,66 18,80'),
        (3, '58,0 32,34 16,72 34,98 62,92 64,70 44,62 20,76'),
        (2, '80,10 56,2 28,24 12,64 30,96 60,96 72,74 54,56 28,62 16,76'),
    ],
    [
        (4, '6,7 46,6 86,4 / 64,36 52,68 44,100'),
        (2, '6,7 46,6 86,4 / 64,36 52,68 44,100 | 34,50 57,48 80,46'),
        (2, '8,24 10,6 / 50,6 88,3 / 68,36 58,68 52,100'),
        (2, '4,16 26,4 56,8 84,6 / 64,34 52,66 50,100'),
    ],
    [
        (4, '76,14 48,0 22,18 38,42 64,58 78,80 52,100 22,86 32,62 62,40 76,18 64,4'),
        (2, '50,46 24,36 22,12 50,0 76,12 74,36 50,47 20,60 14,86 46,100 80,88 80,62 48,47'),
        (2, '72,8 42,1 22,20 44,44 70,64 66,92 38,99 22,80 48,50 82,10'),
    ],
    [
        (3, '74,18 50,2 20,14 16,38 40,50 66,38 76,12 / 74,42 72,70 70,100'),
        (2, '76,16 50,2 20,14 16,38 40,50 68,36 78,12 / 80,44 74,76 54,98 28,96'),
        (3, '70,32 44,48 18,36 26,10 54,0 74,16 70,48 60,76 50,100'),
    ],
]


def noise(random, *shape):
    """Return noise, uniform from -1 to 1: it has no tails that would make a digit illegible."""
    return random.random_sample(shape) * 2 - 1


def wobble(random, count, points, coordinates):
    """Return noise in which neighbouring points move much alike, so that curves stay smooth."""
    free = noise(random, count, points + 2, coordinates)
    return free[:, :-2] + free[:, 1:-1] + free[:, 2:]


def parse_shape(shape):
    """Return a shape's points from -1 to 1, the stroke of each, and the runs without corners."""
    points, strokes, runs = [], [], [[]]
    stroke = 0
    for word in shape.split():
        if word == '/':
            runs.append(runs[-1][-1:])
        elif word == '|':
            runs.append([])
            stroke += 1
        else:
            runs[-1].append(len(points))
            points.append([int(number) / 50 - 1 for number in word.split(',')])
            strokes.append(stroke)
    return np.array(points), np.array(strokes), runs


def pen_positions(points, runs):
    """Return [position, image, coordinate] on Catmull-Rom curves through [image, point, ...]."""
    t = (np.arange(STEPS + 1) / STEPS)[:, np.newaxis, np.newaxis]
    positions = []
    for run in runs:
        p = [points[:, i] for i in run]
        p = [2 * p[0] - p[1], *p, 2 * p[-1] - p[-2]]
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:]):
            square = 2 * a - 5 * b + 4 * c - d
            cube = 3 * (b - c) + d - a
            positions.extend(b + t * (c - a + t * (square + t * cube)) / 2)
    return np.array(positions)


def margins(boxes, axis):
    """Return the pixels to leave before each box to centre its mass along an axis."""
    other_axis = 3 - axis  # boxes are [box, y, x]
    mass = boxes.sum(axis=other_axis, dtype=np.int64)
    centre = (mass * np.arange(1, BOX + 1)).sum(axis=1) // mass.sum(axis=1)
    return np.clip(SIZE // 2 - centre, 0, SIZE - BOX)


def draw(x, y, radius):
    """Return the image that each pen leaves, from its x, y and radius [position, image]."""
    scale = (BOX - 2 * radius.max(axis=0)) / np.maximum(np.ptp(x, axis=0), np.ptp(y, axis=0))
    x = (x - (x.min(axis=0) + x.max(axis=0)) / 2) * scale + BOX / 2
    y = (y - (y.min(axis=0) + y.max(axis=0)) / 2) * scale + BOX / 2

    pixel = np.arange(BOX) + 0.5
    edge = np.full((x.shape[1], BOX, BOX), float(BOX))  # distance to the ink, negative inside
    for pen_x, pen_y, pen_radius in zip(x, y, radius):
        dx = (pen_x[:, np.newaxis] - pixel)[:, np.newaxis, :]
        dy = (pen_y[:, np.newaxis] - pixel)[:, :, np.newaxis]
        distance = np.sqrt(dx * dx + dy * dy) - pen_radius[:, np.newaxis, np.newaxis]
        np.minimum(edge, distance, out=edge)
    ink = np.clip(0.5 - edge / EDGE_WIDTH, 0, 1)
    boxes = np.floor(255 * ink + 0.5).astype(np.uint8)

    images = np.zeros((len(boxes), SIZE, SIZE), np.uint8)
    for image, box, top, left in zip(images, boxes, margins(boxes, 1), margins(boxes, 2)):
        image[top : top + BOX, left : left + BOX] = box
    return images


def write_digits(random, shape, hands):
    """Return an image of a shape by each of the hands."""
    points, strokes, runs = parse_shape(shape)
    count = len(hands)

    # The points stray from the shape, most where a stroke starts or ends, and so do whole strokes.
    is_end = np.diff(np.concatenate([[-1], strokes, [-1]])) != 0
    looseness = np.where(is_end[:-1] | is_end[1:], 0.12, 0.08)[:, np.newaxis]
    stroke_shift = 0.07 * noise(random, count, strokes[-1] + 1, 2)[:, strokes]
    points = points + looseness * wobble(random, count, len(points), 2) + stroke_shift
    pressure = wobble(random, count, len(strokes), 1)
    positions = pen_positions(np.concatenate([points, pressure], axis=2), runs)
    x, y, pressure = positions[..., 0], positions[..., 1], positions[..., 2]

    # The hand bends, tilts, stretches and slants the whole digit, not each time quite the same.
    hand = (1.4 * hands + noise(random, *hands.shape)).T
    tilt, width, slant, pen = hand[:4]
    bend = 0.1 * hand[4:]
    xx, xy, yy = x * x, x * y, y * y
    x, y = (
        x + bend[0] * xx + bend[1] * xy + bend[2] * yy,
        y + bend[3] * xx + bend[4] * xy + bend[5] * yy,
    )
    y = y + 0.18 * tilt * x
    x = x * (0.95 + 0.21 * width) - (0.2 + 0.38 * slant) * y
    return draw(x, y, (1.3 + 0.25 * pen) * (1 + 0.1 * pressure))


def make_split(random, count):
    """Return the images and the labels of a split, by writers of its own."""
    writers = count // len(SHAPES)
    hands = noise(random, writers, HABITS)
    images = []
    for shapes in SHAPES:
        common = np.cumsum([weight for weight, _ in shapes])
        draws = random.random_sample(writers) * common[-1]
        choice = np.searchsorted(common, draws, side='right')
        for i, (_, shape) in enumerate(shapes):
            images.append(write_digits(random, shape, hands[choice == i]))
    labels = np.repeat(np.arange(len(SHAPES), dtype=np.uint8), writers)
    order = np.argsort(random.random_sample(count), kind='mergesort')
    return np.concatenate(images)[order], labels[order]


def save(path, array):
    """Write an array of bytes in the IDX format, gzipped."""
    header = struct.pack(f'>HBB{array.ndim}I', 0, 8, array.ndim, *array.shape)
    # No name and no time, so that the same data gives the same file.
    with open(path, 'wb') as f, gzip.GzipFile('', 'wb', 9, f, mtime=0) as zipped:
        zipped.write(header + array.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--out', default=FOLDER, help='a new folder for the files (default: that of this script)'
    )
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    if os.listdir(out) and not os.path.samefile(out, FOLDER):
        parser.error(f'{out} has files in it already; choose a new folder as --out')
    random = np.random.RandomState(SEED)
    for split, count in SPLITS:
        images, labels = make_split(random, count)
        save(os.path.join(out, f'{split}-images-idx3-ubyte.gz'), images)
        save(os.path.join(out, f'{split}-labels-idx1-ubyte.gz'), labels)


if __name__ == '__main__':
    main()
