"""Draw the pictures that README shows: NAME.png for light pages, NAME_dark.png for dark ones.

Both models are trained for them. The network's run stays in images/runs; once it is finished, it is
not trained again. This script needs matplotlib, and Chromium for the picture of TensorBoard.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np
from diagrams import draw_graph, draw_network
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.patches import Rectangle
from palette import BLUE, GREY, INK, NORMAL, ORANGE, RED, SMALL, WIDTH, draw_for
from photograph import photograph
from train import ROOT, Runs, fetch, input_data, read_curves, tf


def main():
    pictures = {
        'digits': lambda: draw_digits(runs.mnist.test, runs.probabilities),
        'graph': draw_graph,
        'weights': lambda: draw_weights(runs.softmax[0]),
        'filters': lambda: draw_filters(tf.train.load_variable(runs.network, 'conv1/W')),
        'network': lambda: draw_network(runs.network, runs.mnist.test.images[:1]),
        'own_digit': lambda: draw_own_digit(runs.network, runs.mnist.test.images[4]),
        'curves': lambda: draw_curves(runs.softmax[1], read_curves(runs.network)),
        'mistakes': lambda: draw_mistakes(runs.mnist.test, runs.probabilities),
        'tensorboard': lambda: photograph_tensorboard(runs.network, page),
    }
    parser = argparse.ArgumentParser(description='Draw the pictures that README shows.')
    parser.add_argument('--data_dir', default=input_data.DATA_DIR, help='folder of the MNIST files')
    parser.add_argument('--max_steps', type=int, default=20000, help='steps to train the network')
    parser.add_argument('--out', default=os.path.dirname(__file__), help='for the pictures, and runs/')
    parser.add_argument('--only', nargs='+', choices=pictures, help='the pictures to draw')
    args = parser.parse_args()

    runs = Runs(args.data_dir, args.max_steps, os.path.join(args.out, 'runs'))
    for page, suffix in ('light', ''), ('dark', '_dark'):
        draw_for(page)
        for name in args.only or pictures:
            figure = pictures[name]()
            path = os.path.join(args.out, f'{name}{suffix}.png')
            figure.savefig(path, transparent=True, dpi=200)
            plt.close(figure)


def draw_images(images, rows, height, **kwargs):
    """Draw square images in framed tiles, in rows; return the figure and the axes of each."""
    size, side = (WIDTH, height), int(images[0].size ** 0.5)
    figure, grid = plt.subplots(rows, len(images) // rows, figsize=size, layout='constrained')
    for axes, image in zip(grid.flat, images):
        axes.imshow(image.reshape(side, side), **{'cmap': 'gray', 'vmin': 0, 'vmax': 1, **kwargs})
        axes.set(xticks=[], yticks=[])
    return figure, list(grid.flat)


def draw_digits(test, probabilities):
    """Draw the first test images with the network's answers, the last one a wrong one."""
    answers = probabilities.argmax(1)
    drawn = [*range(11), np.flatnonzero(answers != test.labels)[0]]
    figure, grid = draw_images(test.images[drawn], 1, 1.1)
    for axes, i in zip(grid, drawn):
        axes.set_xlabel(answers[i], fontsize=12, color=BLUE, labelpad=2)
        if answers[i] != test.labels[i]:
            axes.set_xlabel(f'{answers[i]} (a {test.labels[i]})', fontsize=12, color=ORANGE)
            print(f'digits: test image {i}, a {test.labels[i]}, is read as a {answers[i]}')
    return figure


def draw_weights(weights):
    """Draw the weights of each digit in softmax regression."""
    figure, grid = draw_images(weights.T, 1, 1.6, **colour_scale(weights))
    for digit, axes in enumerate(grid):
        axes.set_title(digit, pad=4)
    add_colour_bar(figure, grid)
    return figure


def draw_filters(weights):
    """Draw the filters of the first layer; outline the three that are most like an edge.

    An edge is dark on one side and light on the other, so a plane fits its weights well.
    """
    filters = weights.reshape(25, 32)
    plane = np.stack([np.ones(25), *np.indices((5, 5)).reshape(2, 25)], axis=1)
    residuals = np.linalg.lstsq(plane, filters, rcond=None)[1]
    fit = 1 - residuals / 25 / filters.var(axis=0)
    edges = np.argsort(-fit)[:3]
    figure, grid = draw_images(filters.T, 4, 5.2, **colour_scale(filters))
    for number, axes in enumerate(grid):
        axes.set_title(number, pad=4)
        if number in edges:
            axes.set_title(number, pad=4, color=INK, fontweight='bold')
            axes.spines[:].set(color=INK, linewidth=2.5)
    add_colour_bar(figure, grid)
    print('filters most like an edge:', ', '.join(f'{i} (R² {fit[i]:.2f})' for i in edges))
    return figure


def colour_scale(weights):
    """Return a scale from red through nothing to blue, which single large weights do not set."""
    end = np.percentile(abs(weights), 99)
    red, blue = (np.array(to_rgba(colour)) for colour in (RED, BLUE))
    clear = np.array([1, 1, 1, 0])
    colours = [(0, red), (0.5, red * clear), (0.5, blue * clear), (1, blue)]
    return {'cmap': LinearSegmentedColormap.from_list('', colours), 'vmin': -end, 'vmax': end}


def add_colour_bar(figure, grid):
    bar = {'ax': grid, 'orientation': 'horizontal', 'aspect': 60, 'extend': 'both'}
    figure.colorbar(grid[0].images[0], **bar).set_label('weight: red is negative, blue is positive')


def draw_own_digit(log_dir, image):
    """Draw a digit as if photographed, and the steps by which README's read_digit finds it."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    (block,) = re.findall(r'```python\n([^`]*def read_digit.*?)```', readme, re.DOTALL)
    names = {}
    exec(block, names)
    pixels = photograph(image.reshape(28, 28), (240, 320), np.random.RandomState(12))
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default(), tf.Session() as sess:
        path = os.path.join(folder, 'digit.jpg')
        plt.imsave(path, pixels)
        digit = names['read_digit'](path, sess)
    (probabilities,) = fetch(log_dir, ['fc2/probabilities'], digit)
    print(f'own_digit: read as a {probabilities.argmax()} with {probabilities.max():.4f}')

    grey = pixels.mean(axis=2) / 255
    background = fit_background(grey)
    ink = np.maximum(0, background - grey)
    steps = (
        ('photograph', pixels, {}),
        ('its background, fitted', background, {'cmap': 'gray', 'vmin': 0, 'vmax': 1}),
        ('ink: the difference', ink, {'cmap': 'gray'}),
        ('28 \u00d7 28 for the network', digit.reshape(28, 28), {'cmap': 'gray'}),
    )
    ratios = [shown.shape[1] / shown.shape[0] for _, shown, _ in steps]
    figure, grid = plt.subplots(
        1, 4, figsize=(WIDTH, 2.15), width_ratios=ratios, layout='constrained'
    )
    for axes, (title, shown, scale) in zip(grid, steps):
        axes.imshow(shown, **scale)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=NORMAL)
    rows, columns = np.nonzero(digit.reshape(28, 28))
    corner = [(axis.min() + axis.max()) / 2 - 10 for axis in (columns, rows)]
    grid[3].add_patch(Rectangle(corner, 20, 20, fill=False, ec=ORANGE, lw=1.6))
    mass = [np.average(axis, weights=digit[0]) for axis in np.indices((28, 28)).reshape(2, -1)]
    grid[3].plot(mass[1], mass[0], '+', color=ORANGE, ms=10, mew=2)
    grid[3].set_xlabel('box of 20 \u00d7 20,\ncentre of mass', color=ORANGE, fontsize=SMALL)
    return figure


def fit_background(grey):
    """Return the surface of second order that fits the paper along the edge of the picture."""
    y, x = np.indices(grey.shape) / max(grey.shape)
    terms = np.stack([x**0, x, y, x * x, x * y, y * y], axis=2)
    edge = np.ones(grey.shape, bool)
    edge[8:-8, 8:-8] = False
    paper = edge
    for _ in range(6):
        background = terms @ np.linalg.lstsq(terms[paper], grey[paper], rcond=None)[0]
        distance = abs(grey - background)
        paper = edge & (distance <= np.median(distance[edge]))
    return background


def draw_curves(softmax, network):
    """Draw both models' loss on the batches that they are trained on, and their errors."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.8), layout='constrained')
    for curves, colour in (softmax, ORANGE), (network, BLUE):
        left.plot(*points(curves.loss), color=colour, alpha=0.7, lw=0.5)
        left.plot(*points(average(curves.loss)), color=colour, lw=2)
        right.plot(*points(average(curves.batch_error)), color=colour, lw=0.8)
        right.plot(*points(curves.validation_error), 'o-', color=colour, ms=3, lw=2)
    notes = (
        'thick: moving average\nthin: batches of training images',
        'thick: validation images\nthin: batches of training images,\nmoving average',
    )
    for axes, title, note in zip((left, right), ('loss', 'error (1 - accuracy)'), notes):
        axes.set(xscale='log', yscale='log', title=title, xlabel='step', xlim=(9, 30000))
        axes.text(0.03, 0.03, note, transform=axes.transAxes)
        axes.xaxis.set_major_formatter('{x:,.0f}')
        axes.yaxis.set_minor_formatter('')
        axes.grid(color=GREY, alpha=0.3)
    left.yaxis.set_major_formatter('{x:g}')
    right.yaxis.set_major_formatter(lambda error, _: f'{100 * error:g} %')

    highest = max(list(network.loss.values())[len(network.loss) // 2 :])  # of the faint line
    (step, error), (last, last_error) = (
        list(curves.validation_error.items())[-1] for curves in (softmax, network)
    )
    for axes, label, point, offset, side, colour in (
        (left, 'softmax regression', (10, softmax.loss[10]), (0, 12), 'left', ORANGE),
        (left, 'network', (last, highest), (0, 4), 'right', BLUE),
        (right, f'softmax regression:\n{error:.1%}', (step, error), (6, -4), 'left', ORANGE),
        (right, f'network:\n{last_error:.1%}', (last, last_error), (0, 14), 'right', BLUE),
    ):
        place = {'textcoords': 'offset points', 'xytext': offset, 'ha': side, 'va': 'bottom'}
        axes.annotate(label.replace('%', ' %'), point, color=colour, **place)
    return figure


def points(curve):
    """Return the steps and the values that logarithmic axes can show."""
    return zip(*((step, value) for step, value in curve.items() if step and value))


def average(curve):
    """Return a curve's moving average over the steps from 0.7 to 1.4 times each step."""
    steps, values = np.array(list(curve)), np.array(list(curve.values()))
    return {s: values[(steps >= 0.7 * s) & (steps <= 1.4 * s)].mean() for s in steps}


def draw_mistakes(test, probabilities):
    """Draw test images that the network misreads, those first of which it is most certain."""
    answers, certainty = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(answers != test.labels)
    drawn = wrong[np.argsort(-certainty[wrong], kind='stable')][:36]
    figure, grid = draw_images(test.images[drawn], 3, 3.3)
    for axes, i in zip(grid, drawn):
        axes.set_title(f'{test.labels[i]} → {answers[i]}', pad=3, color=INK)
        axes.set_xlabel(f'{certainty[i]:.2f}', fontsize=SMALL, labelpad=2)
    print(f'mistakes: {len(drawn)} of {len(wrong)} drawn')
    return figure


def photograph_tensorboard(log_dir, page):
    """Take a picture of the main graph in a real TensorBoard in a real Chromium."""
    command = [sys.executable, '-m', 'tensorboard.main', '--logdir', log_dir, '--port', '0']
    flags = '--headless --no-sandbox --window-size=1300,1180 --force-device-scale-factor=1.5'
    query = '?darkMode=true' if page == 'dark' else ''
    board = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory() as folder, board:
        screenshot = os.path.join(folder, 'screenshot.png')
        flags = [*flags.split(), '--virtual-time-budget=20000', '--screenshot=' + screenshot]
        try:
            lines = (re.search(r'http://\S+', line) for line in board.stderr)
            address = next(line.group() for line in lines if line)
            time.sleep(20)  # until it has read the events
            url = f'{address}{query}#graphs'
            subprocess.run(['chromium', *flags, url], check=True, stderr=subprocess.DEVNULL)
        finally:
            board.kill()  # or else `with` waits for it
        graph = plt.imread(screenshot)[222:1251, 515:1104]  # the main graph
    return plt.figure(dpi=200).figimage(graph, resize=True).figure


if __name__ == '__main__':
    main()
