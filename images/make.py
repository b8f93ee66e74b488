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
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.patches import Patch, Rectangle
from photograph import photograph
from train import ROOT, Runs, fetch, input_data, read_curves, tf

GREY, BLUE, ORANGE, RED, INK = 'C0', 'C1', 'C2', 'C3', 'C4'  # places in the palette of a page
PALETTES = {
    '': ('#59636e', '#0969da', '#bc4c00', '#cf222e', '#1f2328'),
    '_dark': ('#9198a1', '#4493f8', '#db6d28', '#f85149', '#f0f6fc'),
}
WIDTH = 8.3  # inches, each of them 100 pixels wide in README and 200 in the file
SMALL, NORMAL = 8, 9  # points: 11 and 12.5 pixels in README
ARROW = {'arrowstyle': '-|>', 'color': GREY, 'lw': 1.2, 'shrinkA': 0, 'shrinkB': 0}


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
        'tensorboard': lambda: photograph_tensorboard(runs.network, dark=variant == '_dark'),
    }
    parser = argparse.ArgumentParser(description='Draw the pictures that README shows.')
    parser.add_argument('--data_dir', default=input_data.DATA_DIR, help='folder of the MNIST files')
    parser.add_argument('--max_steps', type=int, default=20000, help='steps to train the network')
    parser.add_argument('--out', default=str(ROOT / 'images'), help='for the pictures, and runs/')
    parser.add_argument('--only', nargs='+', choices=pictures, help='the pictures to draw')
    args = parser.parse_args()

    runs = Runs(args.data_dir, args.max_steps, os.path.join(args.out, 'runs'))
    for variant, colours in PALETTES.items():
        texts = 'text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color', 'ytick.color'
        plt.rcParams.update({'axes.prop_cycle': plt.cycler(color=colours), 'font.size': NORMAL})
        plt.rcParams.update(dict.fromkeys(texts, GREY))
        for name in args.only or pictures:
            figure = pictures[name]()
            path = os.path.join(args.out, f'{name}{variant}.png')
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


def draw_graph():
    """Draw the graph of softmax regression, of its training and of its evaluation."""
    figure, axes = canvas(440)
    kinds = {  # the colour and the shape of their nodes
        'placeholder: fed at each run': (BLUE, 'round'),
        'variable: kept between runs': (ORANGE, 'square'),
        'operation': (INK, 'round4'),
        'operation for evaluation': (GREY, 'round4'),
        'result': ('none', 'square'),
    }
    nodes = {}
    for kind, name, second_line, x, y in (
        ('placeholder', 'x', '[n, 784]', 75, 160),
        ('placeholder', 'y_', '[n, 10]', 765, 240),
        ('variable', 'W', '[784, 10]', 75, 330),
        ('variable', 'b', '[10]', 320, 330),
        ('operation', 'matmul', '', 205, 240),
        ('operation', '+', '', 320, 240),
        ('operation', 'softmax', '', 440, 145),
        ('operation', 'cross_entropy', 'a number', 600, 310),
        ('operation', 'train_step', 'gradient descent', 600, 400),
        ('operation for evaluation', 'argmax', '', 555, 145),
        ('operation for evaluation', 'argmax ', '', 765, 145),
        ('operation for evaluation', 'equal', '', 660, 145),
        ('operation for evaluation', 'accuracy', 'a number', 660, 55),
        ('result', 'y (logits)', '[n, 10]', 440, 240),
        ('result', 'probabilities', '[n, 10]', 440, 55),
    ):
        colour, shape = next(style for label, style in kinds.items() if label.startswith(kind))
        box = {'boxstyle': shape + ',pad=0.5', 'fc': 'none', 'ec': colour, 'lw': 1.6}
        style = {'color': INK if colour == 'none' else colour, 'ha': 'center', 'va': 'center'}
        text = axes.text(x, y, f'{name}\n{second_line}'.strip(), bbox=box, **style)
        nodes[name] = text.get_bbox_patch(), (x, y)
    edges = (
        'x>matmul|W>matmul|matmul>+|b>+|+>y (logits)|y (logits)>softmax|softmax>probabilities|'
        'y (logits)>cross_entropy|y_>cross_entropy|cross_entropy>train_step|train_step>W|'
        'train_step>b|y (logits)>argmax|y_>argmax |argmax>equal|argmax >equal|equal>accuracy'
    )
    for edge in edges.split('|'):
        (start, tail), (end, head) = (nodes[name] for name in edge.split('>'))
        arrow = {**ARROW, 'color': INK, 'patchA': start, 'patchB': end}
        if 'train_step>' in edge:
            arrow.update(color=ORANGE, ls='--', connectionstyle='arc3,rad=0.2')
        elif 'argmax' in edge or 'accuracy' in edge:
            arrow['color'] = GREY
        axes.annotate('', head, tail, arrowprops=arrow)
    axes.text(430, 402, 'updates', ha='center', va='center', color=ORANGE)
    patches = [Patch(fc='none', ec=style[0], label=kind) for kind, style in kinds.items()][:-1]
    frame = {'facecolor': 'none', 'edgecolor': GREY, 'framealpha': 1, 'borderpad': 0.8}
    axes.legend(handles=patches, labelcolor='linecolor', loc=(0.015, 0.03), **frame)
    return figure


def canvas(height):
    """Return a figure and its axes, whose coordinates are the pixels that README shows."""
    figure = plt.figure(figsize=(WIDTH, height / 100))
    axes = figure.add_axes([0, 0, 1, 1], xlim=(0, 830), ylim=(0, height), frame_on=False)
    return figure, axes


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


def draw_network(log_dir, image):
    """Draw what an image becomes, layer by layer, with the shape of each tensor."""
    figure, axes = canvas(610)
    convolution, pooling = '5 \u00d7 5\nconvolution,\nReLU', '2 \u00d7 2\nmax\npooling'
    dense = 'dense,\nReLU,\ndropout\n(off here)'
    first_row, second_row = (460, 335), (165, 67)  # the middle of the tiles, the top of their names
    layers = (  # tensor, name in the code, what makes it, from where; its place; columns of tiles
        ('reshape/Reshape', 'x_image', '', 0, 16, 84, first_row, 1),
        ('conv1/Relu', 'h_conv1', convolution, 100, 186, 112, first_row, 4),
        ('pool1/MaxPool', 'h_pool1', pooling, 298, 370, 64, first_row, 4),
        ('conv2/Relu', 'h_conv2', convolution, 434, 522, 124, first_row, 8),
        ('pool2/MaxPool', 'h_pool2', pooling, 646, 718, 72, first_row, 8),
        ('fc1/Reshape', 'h_pool2_flat', 'reshape', 176, 244, 84, second_row, 56),
        ('fc1/Relu', 'h_fc1 = h_fc1_drop', dense, 328, 398, 64, second_row, 32),
        ('fc2/logits', 'y_conv', 'dense', 462, 568, 96, second_row, None),
        ('fc2/probabilities', 'probabilities', 'softmax', 664, 728, 88, second_row, None),
    )
    shapes = dict(tf.train.list_variables(log_dir))
    values = fetch(log_dir, [tensor for tensor, *_ in layers], image)
    for layer, (value,) in zip(layers, values):
        tensor, name, operation, start, left, width, (y, top), columns = layer
        if columns:
            draw_channels(axes, value, left, y, width, columns)
        else:
            draw_bars(axes, value, left, y, width)
        if operation:
            axes.annotate('', (left - 5, y), (start + 5, y), arrowprops={**ARROW, 'color': BLUE})
            centre = (start + left) / 2
            axes.text(centre, y + 8, operation, ha='center', color=BLUE, fontsize=SMALL)
        lines = [f'[n, {str([*value.shape])[1:]}']
        if operation in (convolution, dense, 'dense'):
            scope = tensor.partition('/')[0]
            lines += [f'{v}_{scope} {shapes[f"{scope}/{v}"]}' for v in 'Wb']
        centre = left + width / 2
        axes.text(centre, top, name, ha='center', va='top', color=INK, fontweight='bold')
        for i, line in enumerate(lines):
            style = {'color': GREY if i == 0 else BLUE, 'fontsize': SMALL}
            axes.text(centre, top - 17 - 15 * i, line, ha='center', va='top', **style)

    draw_enlarged(axes, values[1][0])
    axes.plot((795, 812, 812, 176, 176), (460, 460, 264, 264, 165), color=BLUE, lw=1.2)
    axes.text(58, 592, 'x', ha='center', color=INK, fontweight='bold')
    axes.text(58, 573, '[n, 784]', ha='center', fontsize=SMALL)
    axes.annotate('', (58, 507), (58, 566), arrowprops={**ARROW, 'color': BLUE})
    axes.text(64, 537, 'reshape', va='center', color=BLUE, fontsize=SMALL)
    return figure


def draw_enlarged(axes, channels):
    """Outline the brightest tile of h_conv1, and draw it once more, larger."""
    brightest = channels.sum(axis=(0, 1)).argmax()
    row, column = divmod(brightest, 4)
    outline = {'fill': False, 'ec': ORANGE, 'lw': 2}
    axes.add_patch(Rectangle((186 + 28 * column, 544 - 28 * row), 28, 28, **outline))
    axes.imshow(channels[:, :, brightest], cmap='gray', extent=(16, 146, 100, 230))
    axes.add_patch(Rectangle((16, 100), 130, 130, **outline))
    label = {'ha': 'center', 'va': 'top', 'color': ORANGE, 'fontsize': SMALL}
    axes.text(81, 90, f'h_conv1[0, :, :, {brightest}]\nenlarged', **label)


def draw_channels(axes, value, left, y, width, columns):
    """Draw the channels of [height, width, channels] in tiles, or a vector in rows."""
    tiles = value.reshape(-1, columns)
    if value.ndim == 3:
        value = np.pad(value, [(1, 1), (1, 1), (0, 0)], constant_values=np.nan)
        side = len(value)
        tiles = value.reshape(side, side, -1, columns).transpose(2, 0, 3, 1)
        tiles = tiles.reshape(-1, side * columns)
    half = width * len(tiles) / len(tiles[0]) / 2
    grey = plt.get_cmap('gray').with_extremes(bad=GREY)  # the lines between tiles
    extent, brightest = (left, left + width, y - half, y + half), np.nanpercentile(tiles, 99.7)
    axes.imshow(tiles, cmap=grey, vmax=brightest, extent=extent, aspect='auto')


def draw_bars(axes, value, left, y, width):
    """Draw ten numbers as bars from a line, which is in the middle if some are negative."""
    zero = left + 18 + (width - 18) / 2 * (value.min() < 0)
    lengths = (left + width - zero) * value / abs(value).max()
    heights = y + 78 - 17 * np.arange(10)
    axes.barh(heights, lengths, 12, zero, color=BLUE)
    axes.vlines(zero, heights[-1] - 9, heights[0] + 9, color=GREY, lw=0.8)
    for digit, height in enumerate(heights):
        axes.text(left + 6, height, digit, ha='center', va='center', fontsize=SMALL)


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
    """Return the smooth surface of second order that is closest to the brightness of the paper."""
    y, x = np.indices(grey.shape) / max(grey.shape)
    terms = np.stack([x**0, x, y, x * x, x * y, y * y], axis=2)
    paper = np.ones(grey.shape, bool)
    for _ in range(3):
        background = terms @ np.linalg.lstsq(terms[paper], grey[paper], rcond=None)[0]
        distance = abs(grey - background)
        paper = distance <= np.median(distance)
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
        axes.set(xscale='log', yscale='log', title=title, xlabel='step', xlim=(9, None))
        axes.text(0.03, 0.03, note, transform=axes.transAxes)
        axes.xaxis.set_major_formatter('{x:,.0f}')
        axes.yaxis.set_minor_formatter('')
        axes.grid(color=GREY, alpha=0.3)
    left.yaxis.set_major_formatter('{x:g}')
    right.yaxis.set_major_formatter(lambda error, _: f'{100 * error:g} %')

    highest = max(list(network.loss.values())[-100:])  # above the faint line, too
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


def photograph_tensorboard(log_dir, dark):
    """Take a picture of the main graph in a real TensorBoard in a real Chromium."""
    command = [sys.executable, '-m', 'tensorboard.main', '--logdir', log_dir, '--port', '0']
    flags = '--headless --no-sandbox --window-size=1300,1180 --force-device-scale-factor=1.5'
    query = '?darkMode=true' if dark else ''
    board = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory() as folder, board:
        page = os.path.join(folder, 'page.png')
        flags = [*flags.split(), '--virtual-time-budget=20000', '--screenshot=' + page]
        try:
            lines = (re.search(r'http://\S+', line) for line in board.stderr)
            address = next(line.group() for line in lines if line)
            time.sleep(20)  # until it has read the events
            url = f'{address}{query}#graphs'
            subprocess.run(['chromium', *flags, url], check=True, stderr=subprocess.DEVNULL)
        finally:
            board.kill()  # or else `with` waits for it
        graph = plt.imread(page)[222:1251, 515:1104]  # the main graph
    return plt.figure(dpi=200).figimage(graph, resize=True).figure


if __name__ == '__main__':
    main()
