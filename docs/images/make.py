"""Draw the pictures that README shows: NAME.png for light pages, NAME_dark.png for dark ones.

The models are trained for them. What takes minutes is kept in the folder `runs` beside the
pictures, and is not trained again. This script needs matplotlib.
"""

import argparse
import os
import re
import tempfile
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from diagrams import draw_convolution, draw_graph, draw_network
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from palette import BLUE, GREY, INK, NORMAL, ORANGE, SMALL, WIDTH, colour_scale, draw_for
from photograph import photograph
from train import ROOT, SEEDS, Runs, fetch, input_data, read_curves, tf


def main():
    pictures = {
        'digits': draw_digits,
        'graph': draw_graph,
        'weights': draw_weights,
        'network': draw_network,
        'convolution': draw_convolution,
        'filters': draw_filters,
        'dropout': draw_dropout,
        'own_digit': draw_own_digit,
        'curves': draw_curves,
        'mistakes': draw_mistakes,
    }
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description='Draw the pictures that README shows.')
    parser.add_argument('--data_dir', default=input_data.DATA_DIR, help='folder of the MNIST files')
    parser.add_argument('--max_steps', type=int, default=20000, help='steps to train the network')
    parser.add_argument('--out', default=here, help='folder for the pictures, and for runs/')
    parser.add_argument('--only', nargs='+', choices=pictures, help='the pictures to draw')
    args = parser.parse_args()

    runs = Runs(args.data_dir, args.max_steps, os.path.join(args.out, 'runs'))
    for page, suffix in ('light', ''), ('dark', '_dark'):
        draw_for(page)
        for name in args.only or pictures:
            figure = pictures[name](runs)
            path = os.path.join(args.out, f'{name}{suffix}.png')
            figure.savefig(path, transparent=True, dpi=200)
            plt.close(figure)


def draw_images(images, rows, height, **scale):
    """Draw images of 28 x 28 in framed tiles, in rows; return the figure and the axes of each."""
    size = (WIDTH, height)
    figure, grid = plt.subplots(rows, len(images) // rows, figsize=size, layout='constrained')
    for axes, image in zip(grid.flat, images):
        show(axes, image.reshape(28, 28), **scale)
    return figure, list(grid.flat)


def show(axes, image, **scale):
    """Show an image without ticks; 0 is black and 1 is white, if no scale says otherwise."""
    axes.imshow(image, **{'cmap': 'gray', 'vmin': 0, 'vmax': 1, **scale})
    axes.set(xticks=[], yticks=[])


def draw_digits(runs):
    """Draw the first test images with the network's answers, the last one a wrong one."""
    test, answers = runs.mnist.test, runs.probabilities.argmax(1)
    drawn = [*range(11), np.flatnonzero(answers != test.labels)[0]]
    figure, grid = draw_images(test.images[drawn], 1, 0.92)
    for axes, i in zip(grid, drawn):
        axes.set_xlabel(answers[i], fontsize=12, color=BLUE, labelpad=2)
        if answers[i] != test.labels[i]:
            axes.set_xlabel(f'{answers[i]} for a {test.labels[i]}', fontsize=10, color=ORANGE)
            print(f'digits: test image {i}, a {test.labels[i]}, is read as a {answers[i]}')
    return figure


def draw_weights(runs):
    """Draw the weights of each digit in softmax regression."""
    weights, _ = runs.softmax
    figure, grid = draw_images(weights.T, 1, 1.6, **colour_scale(weights))
    for digit, axes in enumerate(grid):
        axes.set_title(digit, pad=4)
    add_colour_bar(figure, grid, grid[0])
    return figure


def draw_filters(runs):
    """Draw the three filters that are most like an edge, each beside its response to the 7."""
    image = runs.mnist.test.images[:1]
    (responses,) = fetch(runs.network, ['conv1/Relu'], image)
    weights = tf.train.load_variable(runs.network, 'conv1/W')[:, :, 0, runs.edges]
    figure, grid = plt.subplots(1, 7, figsize=(WIDTH, 1.95), layout='constrained')
    show(grid[0], image.reshape(28, 28))
    grid[0].set_title('x_image', pad=4)
    for i, channel in enumerate(runs.edges):
        of_filter, of_response = grid[1 + 2 * i : 3 + 2 * i]
        show(of_filter, weights[:, :, i], **colour_scale(weights))
        of_filter.set_title(f'filter {channel}', pad=4, color=INK)
        show(of_response, responses[0, :, :, channel], vmax=None)
        of_response.set_title('its response', pad=4)
    add_colour_bar(figure, grid, of_filter)
    return figure


def add_colour_bar(figure, grid, axes):
    """Draw the scale of the weights in `axes` below all axes of the grid."""
    bar = {'ax': grid, 'orientation': 'horizontal', 'aspect': 60, 'extend': 'both'}
    figure.colorbar(axes.images[0], **bar).set_label('weight: red is negative, blue is positive')


def draw_dropout(runs):
    """Draw the errors of networks trained on 1,000 images, with and without dropout."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.4), layout='constrained')
    styles = '-', '--', ':'
    for keep_prob, colour, label, side in (
        (0.5, BLUE, 'with dropout', 'top'),
        (1.0, ORANGE, 'without dropout', 'bottom'),
    ):
        runs_of_seeds = runs.few_images[keep_prob]
        for run, style in zip(runs_of_seeds, styles):
            axes.plot(*run.T, style, color=colour, lw=0.9)
        axes.plot(*runs_of_seeds.mean(axis=0).T, color=colour, lw=2.5)
        ends = runs_of_seeds[:, -1, 1]
        label_end(axes, f'{label}:\n{100 * ends.mean():.1f} %', side)
        print(f'dropout: keep_prob {keep_prob}: errors {ends.round(4)}, mean {ends.mean():.4f}')
    axes.set(xlabel='step', ylabel='error on validation images', ylim=(None, 1.3 * ends.max()))
    axes.xaxis.set_major_formatter('{x:,.0f}')
    axes.yaxis.set_major_formatter(percent)
    axes.grid(color=GREY, alpha=0.3)
    axes.margins(x=0)
    seeds = [(f'seed {seed}', 0.9, style) for seed, style in zip(SEEDS, styles)]
    add_key(figure, ('mean', 2.5, '-'), *seeds)
    return figure


def draw_own_digit(runs):
    """Draw a simulated photograph, and the steps by which README's read_digit finds its digit."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    body = re.search(r'\ndef read_digit\(path, sess\):\n(.*?)\n    return', readme, re.DOTALL)[1]
    image = runs.mnist.test.images[4].reshape(28, 28)
    pixels = photograph(image, (240, 320), np.random.RandomState(12))
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default(), tf.Session() as sess:
        path = os.path.join(folder, 'digit.jpg')
        plt.imsave(path, pixels)
        found = {'np': np, 'tf': tf, 'path': path, 'sess': sess}
        exec(textwrap.dedent(body), found)  # not as a function, so that its variables stay
    digit, paper, terms = found['image'], found['paper'], found['terms']
    drawing = found['drawing']
    background = terms @ np.linalg.lstsq(terms[paper], drawing[paper], rcond=None)[0]
    (probabilities,) = fetch(runs.network, ['fc2/probabilities'], digit.reshape(1, 784))
    print(f'own_digit: read as a {probabilities.argmax()} with {probabilities.max():.4f}')

    figure, grid = plt.subplots(
        1, 4, figsize=(WIDTH, 2.15), width_ratios=[4 / 3] * 3 + [1], layout='constrained'
    )
    show(grid[0], pixels)
    show(grid[1], background)
    show(grid[2], np.maximum(0, background - drawing), vmax=None)
    show(grid[3], digit)
    titles = 'simulated photograph', 'its background, fitted', 'ink: the difference'
    for axes, title in zip(grid, (*titles, '28 \u00d7 28 for the network')):
        axes.set_title(title, fontsize=NORMAL)
    grid[3].axhline(14, color=BLUE, lw=0.8)  # MNIST's digits have their centre of mass at 14, 14
    grid[3].axvline(14, color=BLUE, lw=0.8)
    (top, left), (height, width) = found['corner'] - 0.5, found['size']
    grid[3].add_patch(Rectangle((left, top), width, height, fill=False, ec=ORANGE, lw=1.6))
    y, x = found['corner'] + found['mass']
    grid[3].plot(x, y, '+', color=ORANGE, ms=10, mew=2)
    grid[3].set_xlabel(
        '20 pixels high, centre\nof mass in the middle', color=ORANGE, fontsize=SMALL
    )
    return figure


def draw_curves(runs):
    """Draw both models' loss and error on training batches and on the validation images."""
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.9), layout='constrained')
    for model, curves, colour in (
        ('softmax regression', runs.softmax[1], ORANGE),
        ('network', read_curves(runs.network), BLUE),
    ):
        steps, *training = average(np.array(curves.batches)).T
        measured, *validation = np.array(curves.validation).T
        for axes, of_batches, of_validation in zip(panels, training, validation):
            axes.plot(steps, of_batches, color=colour, lw=0.8)
            axes.plot(measured, of_validation, 'o-', color=colour, ms=3, lw=2)
        loss, error = validation[0][-1], validation[1][-1]
        for axes, label in zip(panels, (f'{loss:.2f}', f'{100 * error:.1f} %')):
            label_end(axes, f'{model}:\n{label}')
    for axes, title in zip(panels, ('loss', 'error (1 - accuracy)')):
        axes.set(xscale='log', yscale='log', title=title, xlabel='step', xlim=(9, 150000))
        axes.xaxis.set_major_formatter('{x:,.0f}')
        axes.yaxis.set_minor_formatter('')
        axes.grid(color=GREY, alpha=0.3)
    panels[0].yaxis.set_major_formatter('{x:g}')
    panels[1].yaxis.set_major_formatter(percent)
    moving_average = 'training batches, moving average'
    add_key(figure, ('validation images', 2, '-'), (moving_average, 0.8, '-'))
    return figure


def percent(error, _position):
    return f'{100 * error:g} %'


def label_end(axes, label, side='center'):
    """Write a label beside the end of the line that was drawn last."""
    line, place = axes.lines[-1], {'textcoords': 'offset points', 'va': side}
    axes.annotate(label, line.get_xydata()[-1], (8, 0), color=line.get_color(), **place)


def add_key(figure, *lines):
    """Say below the axes what lines mean, each a label, a width and a style."""
    handles = [Line2D([], [], color=GREY, label=x, lw=width, ls=ls) for x, width, ls in lines]
    figure.legend(handles=handles, loc='outside lower center', ncols=4, frameon=False)


def average(rows):
    """Average the rows whose steps are 0.7 to 1.4 times as large as that of each row."""
    averages = []
    for step, *_ in rows:
        window = rows[(rows[:, 0] >= 0.7 * step) & (rows[:, 0] <= 1.4 * step), 1:]
        if len(window) > 2:
            averages.append((step, *window.mean(axis=0)))
    return np.reshape(averages, (-1, 3))


def draw_mistakes(runs):
    """Draw test images that the network misreads, those first of which it is most certain."""
    test, answers = runs.mnist.test, runs.probabilities.argmax(1)
    certainty = runs.probabilities.max(1)
    wrong = np.flatnonzero(answers != test.labels)
    drawn = wrong[np.argsort(-certainty[wrong], kind='stable')][:36]
    figure, grid = draw_images(test.images[drawn], 3, 3.3)
    for axes, i in zip(grid, drawn):
        axes.set_title(f'{test.labels[i]} → {answers[i]}', pad=3, color=INK)
        axes.set_xlabel(f'{certainty[i]:.2f}', fontsize=SMALL, labelpad=2)
    surest = ', '.join(f'{test.labels[i]} as {answers[i]}' for i in drawn[:3])
    print(f'mistakes: {len(drawn)} of {len(wrong)} drawn, first {surest}')
    return figure


if __name__ == '__main__':
    main()
