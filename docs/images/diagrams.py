"""README's two diagrams: the graph of softmax regression, and what the network computes."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch, Rectangle
from palette import BLUE, GREY, INK, ORANGE, SMALL, WIDTH
from train import fetch, tf

ARROW = {'arrowstyle': '-|>', 'color': GREY, 'lw': 1.2, 'shrinkA': 0, 'shrinkB': 0}


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


def canvas(height):
    """Return a figure and its axes, whose coordinates are the pixels that README shows."""
    figure = plt.figure(figsize=(WIDTH, height / 100))
    axes = figure.add_axes([0, 0, 1, 1], xlim=(0, 830), ylim=(0, height), frame_on=False)
    return figure, axes
