"""Make the pictures that README shows, from real runs.

It needs matplotlib, and Chromium for TensorBoard's page. The network is trained first, as far as it
is not yet in images/runs, which takes as long as mnist_deep.py.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from photograph import photograph  # noqa: E402

import input_data  # noqa: E402
import mnist_deep  # noqa: E402
import mnist_softmax  # noqa: E402

tf = mnist_deep.tf
WIDTH = 8.3  # inches; with 200 dots each, twice as many as the page is wide
TEXT, DEEP, SOFTMAX = '#768390', '#2f81f7', '#d9822b'  # visible on GitHub's white and its black
GREY = plt.get_cmap('gray').with_extremes(bad=TEXT)  # between channels, on black, too
SIGNS = [(0, '#d73a49'), (0.5, '#d73a4900'), (0.5, '#2f81f700'), (1, '#2f81f7')]  # 0 is transparent
ARROW = {'arrowstyle': '-|>', 'color': DEEP, 'lw': 1.2, 'shrinkA': 0, 'shrinkB': 0}
STEPS = 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000  # at which to validate


def main():
    pictures = {
        'digits': lambda: draw_images(test.images[:12], test.labels[:12])[0],
        'graph': draw_graph,
        'weights': lambda: draw_weights(train_softmax(args)[0], 1),
        'filters': lambda: draw_weights(tf.train.load_variable(train_deep(args)[0], 'conv1/W'), 2),
        'network': lambda: draw_network(train_deep(args)[0], test.images[:1]),
        'own_digit': lambda: draw_own_digit(test.images[4]),
        'curves': lambda: draw_curves(train_softmax(args)[1:], *train_deep(args)),
        'mistakes': lambda: draw_mistakes(train_deep(args)[0], test),
        'tensorboard': lambda: photograph_tensorboard(train_deep(args)[0], ''),
        'tensorboard_dark': lambda: photograph_tensorboard(train_deep(args)[0], '?darkMode=true'),
    }
    parser = argparse.ArgumentParser(description='Make the pictures that README shows.')
    parser.add_argument('--data_dir', default=input_data.DATA_DIR, help='folder of the MNIST files')
    parser.add_argument('--max_steps', type=int, default=20000, help='steps of the longest run')
    parser.add_argument('--out', default=str(ROOT / 'images'), help='for pictures, and runs/')
    parser.add_argument('--only', nargs='+', choices=pictures, help='the pictures to make')
    args = parser.parse_args()

    test = input_data.read_data_sets(args.data_dir).test
    colours = ('text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color', 'ytick.color')
    plt.rcParams.update({'font.size': 9, 'savefig.dpi': 200, **dict.fromkeys(colours, TEXT)})
    for name in args.only or pictures:
        pictures[name]().savefig(os.path.join(args.out, name + '.png'), transparent=True)


def train_softmax(args):
    """Train as mnist_softmax.py does; return weights, and losses and accuracies by steps."""
    mnist = input_data.read_data_sets(args.data_dir, one_hot=True, seed=1)
    losses, accuracies = {}, {}
    with tf.Graph().as_default(), tf.Session() as sess:
        x, y_ = (tf.placeholder(tf.float32, [None, size]) for size in (784, 10))
        y = mnist_softmax.softmax_regression(x)
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y))
        train_step = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
        correct = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
        sess.run(tf.global_variables_initializer())
        for i in range(min(1000, args.max_steps)):
            batch = dict(zip((x, y_), mnist.train.next_batch(100)))
            losses[i], _ = sess.run([loss, train_step], batch)
            if i + 1 in STEPS:
                validation = {x: mnist.validation.images, y_: mnist.validation.labels}
                accuracies[i + 1] = correct.eval(validation).mean()
        return sess.run(tf.trainable_variables()[0]), losses, accuracies


def train_deep(args):
    """Train in stages, which resume each other; return the folder, and accuracies by steps."""
    log_dir = os.path.join(args.out, 'runs', f'{args.max_steps}_steps')
    record = Path(log_dir, 'validation.json')
    found = json.loads(record.read_text()) if record.exists() else {}
    validation = input_data.read_data_sets(args.data_dir).validation
    for steps in [n for n in STEPS if 100 <= n < args.max_steps] + [args.max_steps]:
        if str(steps) not in found:
            flags = '--seed', '1', '--max_steps', str(steps), '--log_dir', log_dir
            script = sys.executable, str(ROOT / 'mnist_deep.py'), '--data_dir', args.data_dir
            subprocess.run([*script, *flags], check=True, stdout=subprocess.DEVNULL)
            read = fetch(log_dir, 'fc2/probabilities', validation.images).argmax(1)
            found[str(steps)] = np.mean(read == validation.labels)
            record.write_text(json.dumps(found))
    return log_dir, {int(steps): accuracy for steps, accuracy in found.items()}


def fetch(log_dir, tensor, images):
    """Return what a tensor of the network holds for images, as the run in a folder left it."""
    with tf.Graph().as_default(), tf.Session() as sess:
        mnist_deep.deepnn(tf.placeholder(tf.float32, [None, 784], name='x'))
        tf.train.Saver().restore(sess, tf.train.latest_checkpoint(log_dir))
        return sess.run(tensor + ':0', {'x:0': images, 'keep_prob:0': 1.0})


def scalars(log_dir, tag):
    """Return a curve as {step: value}, without step 0, which logarithms do not show."""
    paths = sorted(map(str, Path(log_dir).glob('*tfevents*')))
    events = [event for path in paths for event in tf.train.summary_iterator(path) if event.step]
    return {e.step: v.simple_value for e in events for v in e.summary.value if v.tag == tag}


def draw_images(images, titles, rows=1, height=0.9, **kwargs):
    """Draw images, flat or of any shape, in rows; return the figure and its axes."""
    size, columns = (WIDTH, height * rows), len(images) // rows
    figure, grid = plt.subplots(rows, columns, figsize=size, constrained_layout=True)
    for axes, image, title in zip(grid.flat, images, titles):
        image = image.reshape(int(image.size**0.5), -1) if image.ndim == 1 else image
        axes.imshow(image, **{'cmap': 'gray', 'vmin': 0, 'vmax': 1, **kwargs})
        axes.set_title(title, fontsize=10, pad=3)
        axes.axis('off')
    return figure, grid.flat


def draw_graph():
    """Draw the graph of softmax regression and of its training."""
    figure = plt.figure(figsize=(WIDTH, 3.3))
    axes = figure.add_axes([0, 0, 1, 1], xlim=(0, 100), ylim=(-5, 35), frame_on=False)
    patches = {}
    for kind, boxstyle, colour, nodes in (  # nodes: name;second line;x;y
        ('placeholder: fed at each run', 'round', DEEP, 'x;[n, 784];8;26 | y_;[n, 10];51;6'),
        ('variable: kept between runs', 'square', SOFTMAX, 'W;[784, 10];8;9 | b;[10];38;6'),
        ('operation', 'round4', TEXT, 'matmul;;26;17.5 | +;;38;17.5 | softmax;;68;28'),
        ('', 'round4', TEXT, 'cross_entropy;a number;69;12 | train_step;gradient descent;90;12'),
        ('', 'square', 'none', 'y (logits);[n, 10];52;17.5 | probabilities;[n, 10];90;28'),
    ):
        box = {'boxstyle': boxstyle + ',pad=0.5', 'fc': 'none', 'ec': colour, 'lw': 1.6}
        style = {'color': TEXT if colour == 'none' else colour, 'ha': 'center', 'va': 'center'}
        axes.text(32, 32 - 0.9 * len(patches), kind, **style)
        for name, shape, x, y in (node.split(';') for node in nodes.split(' | ')):
            text = axes.text(float(x), float(y), f'{name}\n{shape}'.strip(), bbox=box, **style)
            patches[name.split()[0]] = text.get_bbox_patch(), (float(x), float(y))
    edges = 'x>matmul W>matmul matmul>+ b>+ +>y y>softmax softmax>probabilities y>cross_entropy'
    edges += ' y_>cross_entropy cross_entropy>train_step train_step>W train_step>b'
    for edge in edges.split():
        (start, tail), (end, head) = (patches[name] for name in edge.split('>'))
        arrow = {**ARROW, 'color': TEXT, 'patchA': start, 'patchB': end}
        if edge.startswith('train_step'):
            arrow.update(color=SOFTMAX, ls='--', connectionstyle='arc3,rad=-0.3')
        axes.annotate('', head, tail, arrowprops=arrow)
    axes.text(69, -1.2, 'updates', ha='center', va='bottom', color=SOFTMAX)
    return figure


def draw_weights(weights, rows):
    """Draw weights, of which the last dimension counts the images, on one scale."""
    end, images = abs(weights).max(), weights.reshape(-1, weights.shape[-1]).T
    scale = {'cmap': LinearSegmentedColormap.from_list('', SIGNS), 'vmin': -end, 'vmax': end}
    figure, grid = draw_images(images, range(len(images)), rows, 1.6 / rows, **scale)
    bar = figure.colorbar(grid[0].images[0], ax=list(grid), orientation='horizontal', aspect=60)
    bar.set_label('weight: red is negative, blue is positive', fontsize=8)
    return figure


def draw_network(log_dir, image):
    """Draw what an image becomes, layer by layer, with the shape of every tensor."""
    shapes = dict(tf.train.list_variables(log_dir))
    figure = plt.figure(figsize=(WIDTH, 2.9))
    axes = figure.add_axes([0, 0, 1, 1], xlim=(0, 996), ylim=(0, 348), frame_on=False)
    middle, right = 208, 0
    for tensor, name, operation, gap, width, columns in (
        ('reshape/Reshape', 'x_image', '', 18, 54, 1),
        ('conv1/Relu', 'h_conv1', '5 \u00d7 5\nconvolution\nReLU', 68, 76, 4),
        ('pool1/MaxPool', 'h_pool1', '2 \u00d7 2\nmax\npooling', 46, 54, 4),
        ('conv2/Relu', 'h_conv2', '5 \u00d7 5\nconvolution\nReLU', 68, 56, 4),
        ('pool2/MaxPool', 'h_pool2', '2 \u00d7 2\nmax\npooling', 46, 56, 8),
        ('fc1/Reshape', 'h_pool2_flat', 'reshape', 50, 38, 28),
        ('fc1/Relu', 'h_fc1', 'dense\nReLU', 44, 22, 16),
        ('fc1/Relu', 'h_fc1_drop', 'dropout\n(all on\nhere)', 54, 22, 16),
        ('fc2/logits', 'y_conv', 'dense', 38, 52, None),
        ('fc2/probabilities', 'probabilities', 'softmax', 52, 62, None),
    ):
        value, left = fetch(log_dir, tensor, image)[0], right + gap
        right, centre = left + width, left + width / 2
        if columns:
            tiles = tile(value, columns) if value.ndim == 3 else value.reshape(-1, columns)
            half = width * len(tiles) / len(tiles[0]) / 2
            extent = (left, right, middle - half, middle + half)
            brightest = np.nanpercentile(tiles, 99.7)
            axes.imshow(tiles, cmap=GREY, vmax=brightest, extent=extent, aspect='auto')
        else:  # ten numbers, on a scale from 0 in the middle, or on the left, to the largest
            zero = left + 18 + (right - left - 18) / 2 * (value.min() < 0)
            ends = zero + (right - zero) * value / abs(value).max()
            heights = middle + 90 - 20 * np.arange(10)
            axes.barh(heights, ends - zero, 14, zero, color=DEEP)
            axes.vlines(zero, heights[-1] - 10, heights[0] + 10, color=TEXT, lw=0.8)
            for digit, y in enumerate(heights):
                axes.text(left + 6, y, digit, ha='center', va='center', fontsize=8)
        if operation:
            axes.annotate('', (left - 5, middle), (left - gap + 5, middle), arrowprops=ARROW)
            axes.text(left - gap / 2, middle + 8, operation, fontsize=7, color=DEEP, ha='center')
        axes.text(centre, 58, name, ha='center', fontweight='bold', fontsize=8)
        axes.text(centre, 40, f'[n, {str([*value.shape])[1:]}', ha='center', fontsize=8)
        if {'convolution', 'dense'} & {*operation.split('\n')}:
            label = 'W {}\nb {}'.format(*(shapes[f'{tensor.split("/")[0]}/{v}'] for v in 'Wb'))
            axes.text(centre, 10, label, ha='center', fontsize=7.5, color=DEEP)
    axes.annotate('x\n[n, 784]', (45, 240), (45, 276), ha='center', fontsize=8, arrowprops=ARROW)
    return figure


def tile(value, columns):
    """Lay the channels of [height, width, channels] side by side."""
    value = np.pad(value, [(1, 1), (1, 1), (0, 0)], 'constant', constant_values=np.nan)
    height, width, _ = value.shape
    value = value.reshape(height, width, -1, columns).transpose(2, 0, 3, 1)
    return value.reshape(-1, width * columns)


def draw_own_digit(image):
    """Draw a photograph of a digit on paper, and what README's read_digit makes of it."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    (block,) = re.findall(r'```python\n([^`]*def read_digit.*?)```', readme, re.DOTALL)
    names = {}
    exec(block, names)
    pixels = photograph(image.reshape(28, 28), (240, 320), np.random.RandomState(12))
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default(), tf.Session() as sess:
        path = os.path.join(folder, 'digit.jpg')
        plt.imsave(path, pixels)
        digit = names['read_digit'](path, sess)[0]
    titles = 'as if photographed: 320 \u00d7 240', 'what read_digit makes of it: 28 \u00d7 28'
    return draw_images([pixels, digit], titles, height=2.9, interpolation='nearest')[0]


def draw_curves(softmax, log_dir, deep_accuracies):
    """Draw the losses, and the accuracies on the validation images."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1), constrained_layout=True)
    batches = scalars(log_dir, 'summaries/training_accuracy')
    right.scatter(*zip(*batches.items()), s=3, color=DEEP, alpha=0.4, label='network, a batch')
    for name, every, colour, losses, accuracies in (
        ('softmax regression', 'step', SOFTMAX, *softmax),
        ('network', '100 steps', DEEP, scalars(log_dir, 'summaries/loss'), deep_accuracies),
    ):
        label = f'{name}, every {every}'
        left.plot(*zip(*losses.items()), color=colour, alpha=0.3, lw=0.8, label=label)
        steps, y = list(losses), list(losses.values())
        average = [np.mean(y[i - 7 : i + 8]) for i in range(7, len(y) - 7)]
        left.plot(steps[7:-7], average, color=colour, lw=1.6, label='moving average of 15 of these')
        label = f'{name}, validation: {list(accuracies.values())[-1]:.4f}'
        right.plot(*zip(*accuracies.items()), 'o-', color=colour, ms=3, lw=1.6, label=label)
    left.set(yscale='log', ylabel='loss on the training batch')
    right.set(ylim=(0.7, 1.01), ylabel='accuracy')
    for axes in (left, right):
        axes.set(xscale='log', xlabel='step (logarithmic)', xlim=(9, None))
        axes.xaxis.set_major_formatter('{x:,.0f}')
        axes.legend(frameon=False, fontsize=7.5)
        axes.grid(color=TEXT, alpha=0.25)
    left.yaxis.set_major_formatter('{x:g}')
    return figure


def draw_mistakes(log_dir, test):
    """Draw test images that the network misreads, those first of which it is most certain."""
    found = fetch(log_dir, 'fc2/probabilities', test.images)
    read, certainty = found.argmax(1), found.max(1)
    wrong = np.flatnonzero(read != test.labels)
    drawn = wrong[np.argsort(-certainty[wrong], kind='stable')][:36]
    titles = [f'{test.labels[i]} → {read[i]}' for i in drawn]
    figure, grid = draw_images(test.images[drawn], titles, rows=3, height=0.98)
    for axes, i in zip(grid, drawn):
        axes.text(14, 29, f'{certainty[i]:.2f}', ha='center', va='top', fontsize=8)
    print(f'{len(drawn)} of {len(wrong)} mistakes drawn')
    return figure


def photograph_tensorboard(log_dir, query):
    """Take a picture of the main graph in a real TensorBoard in a real Chromium."""
    command = [sys.executable, '-m', 'tensorboard.main', '--logdir', log_dir, '--port', '0']
    flags = '--headless --no-sandbox --window-size=1300,1180 --force-device-scale-factor=1.5'
    board = subprocess.Popen(command, stderr=subprocess.PIPE, universal_newlines=True)
    with tempfile.TemporaryDirectory() as folder, board:
        page = os.path.join(folder, 'page.png')
        flags = [*flags.split(), '--virtual-time-budget=20000', '--screenshot=' + page]
        try:
            lines = (re.search(r'http://\S+', line) for line in board.stderr)
            address = next(line.group() for line in lines if line)
            time.sleep(20)  # until it has read the events
            subprocess.run(['chromium', *flags, f'{address}{query}#graphs'], check=True)
        finally:
            board.kill()  # or else `with` waits for it
        graph = plt.imread(page)[222:1251, 515:1104]  # the main graph
    return plt.figure(dpi=200).figimage(graph, resize=True).figure


if __name__ == '__main__':
    main()
