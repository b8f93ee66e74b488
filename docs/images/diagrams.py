"""README's diagrams: the graph of softmax regression, the network, and one of its convolutions."""

from collections import namedtuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch, Rectangle
from palette import BLUE, GREY, INK, ORANGE, SMALL, WIDTH, colour_scale
from train import fetch, tf

ARROW = {'arrowstyle': '-|>', 'color': GREY, 'lw': 1.2, 'shrinkA': 0, 'shrinkB': 0}
BLUE_ARROW = {**ARROW, 'color': BLUE}


def draw_graph(runs):
    """Draw the graph of softmax regression, of its training and of its evaluation."""
    figure, axes = canvas(440)
    kinds = {  # colour, shape and line of their nodes
        'placeholder': (BLUE, 'round', '-'),
        'variable': (ORANGE, 'square', '-'),
        'operation': (INK, 'round4', '-'),
        'result': (INK, 'square', ':'),
        'evaluation': (GREY, 'round4', '-'),
        'result of evaluation': (GREY, 'square', ':'),
    }
    nodes = {  # kind, label, place, and the nodes whose arrows lead here
        'x': ('placeholder', 'x\n[n, 784]', 75, 175),
        'y_': ('placeholder', 'y_\n[n, 10]', 765, 240),
        'W': ('variable', 'W\n[784, 10]', 75, 330, 'train_step'),
        'b': ('variable', 'b\n[10]', 320, 330, 'train_step'),
        'matmul': ('operation', 'matmul', 205, 240, 'x', 'W'),
        'plus': ('operation', '+', 320, 240, 'matmul', 'b'),
        'y': ('result', 'y (logits)\n[n, 10]', 440, 240, 'plus'),
        'cross_entropy': ('operation', 'cross_entropy\na number', 600, 310, 'y', 'y_'),
        'train_step': ('operation', 'train_step\ngradient descent', 600, 400, 'cross_entropy'),
        'softmax': ('evaluation', 'softmax', 440, 145, 'y'),
        'probabilities': ('result of evaluation', 'probabilities\n[n, 10]', 440, 55, 'softmax'),
        'answer': ('evaluation', 'argmax', 555, 145, 'y'),
        'right answer': ('evaluation', 'argmax', 765, 145, 'y_'),
        'equal': ('evaluation', 'equal', 660, 145, 'answer', 'right answer'),
        'accuracy': ('evaluation', 'accuracy\na number', 660, 55, 'equal'),
    }
    boxes = {}
    for name, (kind, label, x, y, *_) in nodes.items():
        colour, shape, line = kinds[kind]
        box = {'boxstyle': shape + ',pad=0.5', 'fc': 'none', 'ec': colour, 'ls': line, 'lw': 1.6}
        text = axes.text(x, y, label, color=colour, ha='center', va='center', bbox=box)
        boxes[name] = text.get_bbox_patch()
    for name, (kind, _, x, y, *inputs) in nodes.items():
        for start in inputs:
            arrow = {'color': kinds[kind][0], 'patchA': boxes[start], 'patchB': boxes[name]}
            if start == 'train_step':
                arrow.update(ls='--', connectionstyle='arc3,rad=0.2')
            axes.annotate('', (x, y), nodes[start][2:4], arrowprops={**ARROW, **arrow})
    axes.text(430, 402, 'updates', ha='center', va='center', color=ORANGE)
    legend = (
        ('placeholder', 'placeholder: fed at each run'),
        ('variable', 'variable: kept between runs'),
        ('operation', 'operation'),
        ('result', 'result of an operation'),
        ('evaluation', 'grey: only for evaluation'),
    )
    patches = []
    for kind, label in legend:
        colour, _, line = kinds[kind]
        patches.append(Patch(fc='none', ec=colour, ls=line, lw=1.4, label=label))
    frame = {'facecolor': 'none', 'edgecolor': GREY, 'framealpha': 1, 'borderpad': 0.8}
    style = {'title': 'n: the number of images', 'alignment': 'left', 'labelcolor': 'linecolor'}
    axes.legend(handles=patches, loc=(0.015, 0.01), **style, **frame)
    return figure


Layer = namedtuple('Layer', 'name tensor operation weights left width columns')


def draw_network(runs):
    """Draw what an image becomes, layer by layer, with the shape of each tensor."""
    figure, axes = canvas(610)
    convolution, pooling = '5 \u00d7 5\nconvolution,\nReLU', '2 \u00d7 2\nmax\npooling'
    dense = 'dense,\nReLU,\ndropout\n(off here)'
    first_row = (  # places are in pixels of README
        Layer('x_image', 'reshape/Reshape', '', '', 10, 84, 1),
        Layer('h_conv1', 'conv1/Relu', convolution, 'conv1', 178, 112, 4),
        Layer('h_pool1', 'pool1/MaxPool', pooling, '', 350, 56, 4),
        Layer('h_conv2', 'conv2/Relu', convolution, 'conv2', 490, 168, 8),
        Layer('h_pool2', 'pool2/MaxPool', pooling, '', 718, 84, 8),
    )
    second_row = (
        Layer('h_pool2_flat', 'fc1/Reshape', 'reshape', '', 244, 84, 56),
        Layer('h_fc1 = h_fc1_drop', 'fc1/Relu', dense, 'fc1', 398, 64, 32),
        Layer('y_conv', 'fc2/logits', 'dense', 'fc2', 534, 120, None),
        Layer('probabilities', 'fc2/probabilities', 'softmax', '', 722, 100, None),
    )
    shapes = dict(tf.train.list_variables(runs.network))
    tensors = [layer.tensor for layer in first_row + second_row]
    values = dict(zip(tensors, fetch(runs.network, tensors, runs.mnist.test.images[:1])))
    # The middle of a row's tiles, the top of their names, and where its first arrow starts.
    for layers, y, top, start in (first_row, 460, 335, 0), (second_row, 165, 67, 176):
        for layer in layers:
            (value,) = values[layer.tensor]
            if layer.columns:
                draw_channels(axes, value, layer.left, y, layer.width, layer.columns)
            else:
                draw_bars(axes, value, layer.left, y, layer.width)
            if layer.operation:
                axes.annotate('', (layer.left - 5, y), (start + 5, y), arrowprops=BLUE_ARROW)
                style = {'ha': 'center', 'color': BLUE, 'fontsize': SMALL}
                axes.text((start + layer.left) / 2, y + 8, layer.operation, **style)
            start = layer.left + layer.width
            lines = [f'[n, {str([*value.shape])[1:]}']
            if layer.weights:
                variables = ((v, f'{layer.weights}/{v}') for v in 'Wb')
                lines += [f'{v}_{layer.weights} {shapes[name]}' for v, name in variables]
            centre = {'x': layer.left + layer.width / 2, 'ha': 'center', 'va': 'top'}
            axes.text(y=top, s=layer.name, color=INK, fontweight='bold', **centre)
            for i, line in enumerate(lines):
                style = {'color': BLUE if i else GREY, 'fontsize': SMALL}
                axes.text(y=top - 17 - 15 * i, s=line, **style, **centre)

    channel = runs.edges[0]
    draw_enlarged(axes, values['conv1/Relu'][0, :, :, channel], channel, first_row[1])
    axes.plot((807, 816, 816, 176, 176), (460, 460, 264, 264, 165), color=BLUE, lw=1.2)
    axes.text(52, 592, 'x', ha='center', color=INK, fontweight='bold')
    axes.text(52, 573, '[n, 784]', ha='center', fontsize=SMALL)
    axes.annotate('', (52, 507), (52, 566), arrowprops=BLUE_ARROW)
    axes.text(58, 537, 'reshape', va='center', color=BLUE, fontsize=SMALL)
    return figure


def draw_enlarged(axes, response, channel, h_conv1):
    """Outline the tile of a channel of h_conv1, and draw it once more, larger."""
    row, column = divmod(channel, 4)
    outline = {'fill': False, 'ec': ORANGE, 'lw': 2}
    axes.add_patch(Rectangle((h_conv1.left + 28 * column, 544 - 28 * row), 28, 28, **outline))
    axes.imshow(response, cmap='gray', extent=(10, 150, 95, 235))
    axes.add_patch(Rectangle((10, 95), 140, 140, **outline))
    label = {'ha': 'center', 'va': 'top', 'color': ORANGE, 'fontsize': SMALL}
    axes.text(80, 85, f'h_conv1[0, :, :, {channel}]\nenlarged', **label)


def draw_channels(axes, value, left, y, width, columns):
    """Draw the channels of [height, width, channels] in tiles, or a vector in rows."""
    tiles, columns_of_tiles = value.reshape(-1, columns), 1
    if value.ndim == 3:
        side, columns_of_tiles = len(value), columns
        tiles = value.reshape(side, side, -1, columns).transpose(2, 0, 3, 1)
        tiles = tiles.reshape(-1, side * columns)
    half = width * len(tiles) / len(tiles[0]) / 2
    extent, brightest = (left, left + width, y - half, y + half), np.percentile(tiles, 99.7)
    axes.imshow(tiles, cmap='gray', vmin=0, vmax=brightest, extent=extent, aspect='auto')
    side, lines = width / columns_of_tiles, {'color': GREY, 'lw': 0.5}
    axes.vlines(np.arange(left, left + width + 1, side), y - half, y + half, **lines)
    axes.hlines(np.arange(y - half, y + half + 1, side), left, left + width, **lines)


def draw_bars(axes, value, left, y, width):
    """Draw ten numbers as bars, with the number beside the longest."""
    lowest, left, width = min(0, value.min()), left + 18, width - 54  # without digits and number
    scale = width / (value.max() - lowest)
    zero = left - lowest * scale
    heights = y + 78 - 17 * np.arange(10)
    axes.barh(heights, scale * value, 12, zero, color=BLUE)
    axes.vlines(zero, heights[-1] - 9, heights[0] + 9, color=GREY, lw=0.8)
    for digit, height in enumerate(heights):
        axes.text(left - 12, height, digit, ha='center', va='center', fontsize=SMALL)
    label = {'color': INK, 'va': 'center', 'fontsize': SMALL}
    axes.text(left + width + 4, heights[value.argmax()], f'{value.max():.2f}', **label)


def draw_convolution(runs):
    """Draw how the brightest pixel of a channel of h_conv1 is computed, with the numbers."""
    channel = runs.edges[0]
    (image,), (response,) = fetch(
        runs.network, ['reshape/Reshape', 'conv1/Relu'], runs.mnist.test.images[:1]
    )
    image, response = image[:, :, 0], response[:, :, channel]
    row, column = np.unravel_index(response.argmax(), response.shape)
    window = np.pad(image, 2)[row : row + 5, column : column + 5]  # the pixel is in its middle
    weights = tf.train.load_variable(runs.network, 'conv1/W')[:, :, 0, channel]
    bias = tf.train.load_variable(runs.network, 'conv1/b')[channel]
    products, pixel = (window * weights).sum(), response[row, column]
    assert np.isclose(max(0, products + bias), pixel, atol=1e-5), 'TensorFlow computes otherwise'
    print(f'convolution: h_conv1[0, {row}, {column}, {channel}]')
    print(f'{window.round(2)}\n{weights.round(2)}')
    print(f'products {products:.4f}, bias {bias:.4f}, h_conv1 {pixel:.4f}')

    figure, axes = canvas(285)
    window_slice = f'x_image[0, {row - 2}:{row + 3}, {column - 2}:{column + 3}, 0]'
    for name, line, left, width in (
        ('x_image', '28 \u00d7 28 pixels', 8, 154),
        ('5 \u00d7 5 pixels', window_slice, 194, 190),
        (f'filter {channel}', f'W_conv1[:, :, 0, {channel}]', 412, 190),
        (f'h_conv1, channel {channel}', '28 \u00d7 28 pixels', 668, 154),
    ):
        centre = {'x': left + width / 2, 'ha': 'center', 'va': 'top'}
        axes.text(y=282, s=name, color=INK, fontweight='bold', **centre)
        axes.text(y=264, s=line, fontsize=SMALL, **centre)
    draw_numbers(axes, window, 194, {'cmap': 'gray', 'vmin': 0, 'vmax': 1})
    draw_numbers(axes, weights, 412, colour_scale(2 * weights))  # pale, under the numbers
    for left, tile in (8, image), (668, response):
        axes.imshow(tile, cmap='gray', vmin=0, extent=(left, left + 154, 70, 224))
        axes.add_patch(Rectangle((left, 70), 154, 154, fill=False, ec=GREY))
    axes.text(398, 147, '\u00d7', ha='center', va='center', color=ORANGE, fontsize=14)

    outline, side = {'fill': False, 'ec': ORANGE, 'lw': 1.6}, 154 / 28
    x, y = side * column, 224 - side * (row + 1)  # the pixel's lower left corner
    axes.add_patch(Rectangle((8 + x - 2 * side, y - 2 * side), 5 * side, 5 * side, **outline))
    axes.add_patch(Rectangle((668 + x, y), side, side, **outline))
    axes.plot((8 + x + 3 * side, 194), (y + 3 * side, 242), color=ORANGE, lw=0.8)
    axes.plot((8 + x + 3 * side, 194), (y - 2 * side, 52), color=ORANGE, lw=0.8)
    axes.annotate('', (668 + x, y + side / 2), (606, 147), arrowprops={**ARROW, 'color': ORANGE})
    biased = f'{products:.2f} + bias {bias:.2f} = {products + bias:.2f}'
    relu = f'ReLU: max(0, {products + bias:.2f}) = {pixel:.2f}'
    line = f'25 products add up to {products:.2f};  {biased};  {relu}'
    axes.text(415, 22, line, ha='center', va='center', color=ORANGE)
    return figure


def draw_numbers(axes, values, left, scale):
    """Draw 5 x 5 cells with their numbers."""
    axes.imshow(values, extent=(left, left + 190, 52, 242), **scale)
    axes.add_patch(Rectangle((left, 52), 190, 190, fill=False, ec=GREY))
    for (i, j), value in np.ndenumerate(values):
        pixel = 'white' if value < 0.5 else 'black'
        style = {'color': pixel if scale['cmap'] == 'gray' else INK, 'fontsize': SMALL}
        number = f'{round(value, 2) + 0:.2f}'.replace('-', '\u2212')  # + 0: no -0.00
        axes.text(left + 19 + 38 * j, 223 - 38 * i, number, ha='center', va='center', **style)


def canvas(height):
    """Return a figure and its axes, whose coordinates are the pixels that README shows."""
    figure = plt.figure(figsize=(WIDTH, height / 100))
    axes = figure.add_axes([0, 0, 1, 1], xlim=(0, 830), ylim=(0, height), frame_on=False)
    return figure, axes
