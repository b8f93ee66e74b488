"""Make the pictures that README shows, from real runs.

pip install matplotlib selenium   # and Chromium with its driver, for TensorBoard's page
python mnist_softmax.py --log_dir runs/softmax && python mnist_deep.py --log_dir runs/deep
python images/make.py --softmax_log_dir runs/softmax --deep_log_dir runs/deep
"""

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image

IMAGES = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(IMAGES))

import input_data  # noqa: E402
import mnist_deep  # noqa: E402

tf = mnist_deep.tf

WIDTH = 8.3  # inches; with 200 dots each, twice as many as the page is wide
INK, SOFTMAX, DEEP, PALE = '#24292f', '#d9822b', '#2166ac', '#8c959f'


def main():
    pictures = {
        'network': lambda: draw_network(args.deep_log_dir, test),
        'curves': lambda: draw_curves(args.softmax_log_dir, args.deep_log_dir),
        'weights': lambda: draw_weights(args.softmax_log_dir),
        'mistakes': lambda: draw_mistakes(args.deep_log_dir, test),
        'tensorboard': lambda: photograph_tensorboard(args.deep_log_dir),
    }
    parser = argparse.ArgumentParser(description='Make the pictures that README shows.')
    parser.add_argument('--data_dir', default=input_data.DATA_DIR, help='folder of the MNIST files')
    parser.add_argument('--softmax_log_dir', required=True, help='of a run of mnist_softmax.py')
    parser.add_argument('--deep_log_dir', required=True, help='of a run of mnist_deep.py')
    parser.add_argument('--out', default=IMAGES, help='folder for the pictures (default: this one)')
    parser.add_argument('--only', nargs='+', choices=pictures, help='the pictures to make')
    args = parser.parse_args()

    test = input_data.read_data_sets(args.data_dir).test
    plt.rcParams.update(
        {
            'font.size': 9,
            'text.color': INK,
            'axes.edgecolor': PALE,
            'axes.labelcolor': INK,
            'xtick.color': INK,
            'ytick.color': INK,
            'savefig.dpi': 200,
            'savefig.facecolor': 'white',
        }
    )
    for name in args.only or pictures:
        path = os.path.join(args.out, name + '.png')
        save(pictures[name](), path)
        print(f'{path}: {os.path.getsize(path):,} bytes')


def save(figure, path):
    """Save in 256 colours, which takes less than half of the space."""
    buffer = io.BytesIO()
    figure.savefig(buffer)
    image = PIL.Image.open(buffer).convert('RGB')
    image.quantize(256, dither=PIL.Image.Dither.NONE).save(path, optimize=True)


@contextlib.contextmanager
def trained_network(log_dir):
    """Open a session with the network as the run in a folder left it."""
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(1)  # the same neurons off each time
        mnist_deep.deepnn(tf.placeholder(tf.float32, [None, 784], name='x'))
        tf.train.Saver().restore(sess, tf.train.latest_checkpoint(log_dir))
        yield sess


def draw_network(log_dir, test):
    """Draw what the first test image becomes, layer by layer, with the shape of every tensor."""
    with trained_network(log_dir) as sess:
        last = {}
        for op in sess.graph.get_operations():
            if op.type in ('Reshape', 'Relu', 'MaxPool', 'Softmax'):
                last[op.name.split('/')[0]] = op.outputs[0]
        last['dropout'] = sess.graph.get_operation_by_name('fc2/MatMul').inputs[0]
        image = test.images[:1]
        outputs = sess.run(last, {'x:0': image, 'keep_prob:0': 1.0})
        outputs['dropout'] = sess.run(last['dropout'], {'x:0': image, 'keep_prob:0': 0.5})
    shapes = {name: tensor.shape.as_list()[1:] for name, tensor in last.items()}
    shapes['dropout'] = shapes['fc1']
    parameters = {}
    for variable in sess.graph.get_collection('trainable_variables'):
        layer, name = variable.op.name.split('/')
        parameters.setdefault(layer, []).append(f'{name} {times(variable.shape.as_list())}')

    figure = plt.figure(figsize=(WIDTH, 3.25))
    axes = figure.add_axes([0, 0, 1, 1])
    arrow = {'arrowstyle': '-|>', 'color': DEEP, 'lw': 1.2, 'shrinkA': 0, 'shrinkB': 0}
    middle, right = 208, None
    for name, operation, left, width, columns in (
        ('reshape', '', 12, 106, 1),
        ('conv1', '5 \u00d7 5\nconvolution,\nReLU', 162, 112, 4),
        ('pool1', '2 \u00d7 2\nmax pooling', 328, 60, 4),
        ('conv2', '5 \u00d7 5\nconvolution,\nReLU', 436, 60, 4),
        ('pool2', '2 \u00d7 2\nmax pooling', 558, 64, 8),
        ('fc1', 'dense,\nReLU', 676, 24, None),
        ('dropout', 'half\nare off', 758, 24, None),
        ('fc2', 'dense,\nsoftmax', 836, 144, None),
    ):
        value = outputs[name][0]
        if name == 'fc2':
            for digit, probability in enumerate(value):
                y = middle + 90 - 20 * digit
                axes.text(left + 8, y, str(digit), ha='center', va='center', fontsize=9)
                for part, colour in ((1, '#eaeef2'), (probability, DEEP)):
                    axes.add_patch(plt.Rectangle((left + 20, y - 7), 116 * part, 14, color=colour))
        else:
            tiles = tile(value, columns) if columns else value.reshape(64, 16)
            half = width * len(tiles) / len(tiles[0]) / 2
            extent = (left, left + width, middle - half, middle + half)
            colours = plt.get_cmap('gray').with_extremes(bad='white')
            brightest = np.nanpercentile(tiles, 99.7)
            axes.imshow(tiles, cmap=colours, vmin=0, vmax=brightest, extent=extent)
        if operation:
            axes.annotate('', (left - 6, middle), (right + 6, middle), arrowprops=arrow)
            where = (left + right) / 2
            axes.text(where, 382, operation, ha='center', va='top', fontsize=8, color=DEEP)
        right = left + width
        centre = left + width / 2
        axes.text(centre, 58, name, ha='center', fontweight='bold', fontsize=9.5)
        axes.text(centre, 40, times(shapes[name]), ha='center', fontsize=8.5)
        for line, parameter in enumerate(parameters.get(name, [])):
            axes.text(centre, 22 - 15 * line, parameter, ha='center', fontsize=7.5, color=DEEP)
    axes.text(65, 316, 'x', ha='center', fontweight='bold', fontsize=9.5)
    axes.text(65, 298, '784', ha='center', fontsize=8.5)
    axes.set(xlim=(0, 996), ylim=(0, 390), aspect='equal')
    axes.axis('off')
    return figure


def times(shape):
    return ' \u00d7 '.join(str(size) for size in shape)


def tile(value, columns):
    """Lay the channels of [height, width, channels] side by side."""
    value = np.pad(value, [(1, 1), (1, 1), (0, 0)], 'constant', constant_values=np.nan)
    height, width, channels = value.shape
    value = value.reshape(height, width, -1, columns).transpose(2, 0, 3, 1)
    return value.reshape(height * channels // columns, width * columns)


def draw_curves(softmax_log_dir, deep_log_dir):
    """Draw the loss of both scripts, and the accuracy of the network on its batches."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1), constrained_layout=True)
    for log_dir, name, colour in (
        (softmax_log_dir, 'softmax regression', SOFTMAX),
        (deep_log_dir, 'convolutional network', DEEP),
    ):
        steps, losses = scalars(log_dir, 'summaries/loss')
        left.plot(steps, losses, color=colour, alpha=0.25, lw=0.8)
        left.plot(steps, smooth(losses), color=colour, lw=1.6, label=name)
    left.set_xscale('symlog', linthresh=100)
    left.set_yscale('log')
    left.set_ylabel('loss on the batch')
    left.legend(frameon=False)

    steps, accuracies = scalars(deep_log_dir, 'summaries/training_accuracy')
    right.plot(steps, accuracies, '.', color=DEEP, alpha=0.4, ms=5, mew=0, label='one batch of 50')
    right.plot(steps, smooth(accuracies), color=DEEP, lw=1.6, label='average of several')
    (_, (*_, final)) = scalars(deep_log_dir, 'summaries/test_accuracy')
    label = f'all test images, at the end: {final:.4f}'
    right.axhline(final, color=INK, lw=1, ls='--', label=label)
    right.set_ylim(0.895, 1.005)
    right.set_ylabel('accuracy of the network')
    right.legend(frameon=False, loc='lower right')
    for axes in (left, right):
        axes.set_xlabel('step')
        axes.xaxis.set_major_formatter('{x:,.0f}')
        axes.grid(color='#eaeef2')
        axes.set_axisbelow(True)
        axes.spines[['top', 'right']].set_visible(False)
    right.locator_params('x', nbins=5)
    left.yaxis.set_major_formatter('{x:g}')
    left.set_xticks([tick for tick in (0, 100, 1000, 10000) if tick <= max(100, *steps)])
    left.minorticks_off()
    return figure


def smooth(values):
    """Average each value with its neighbours, fewer at the start, where they change fast."""
    reach = [min(7, i // 3) for i in range(len(values))]
    return [np.mean(values[i - k : i + k + 1]) for i, k in enumerate(reach)]


def draw_weights(log_dir):
    """Draw the ten weight images that the script summarised."""
    figure, grid = plt.subplots(2, 5, figsize=(WIDTH, 3.7), constrained_layout=True)
    for digit, axes in enumerate(grid.flat):
        *_, (_, summary) = values(log_dir, f'summaries/weights/image/{digit}')
        pixels = plt.imread(io.BytesIO(summary.image.encoded_image_string))
        # TensorFlow has put zero at grey 127 and the largest weight of either sign at the end.
        signed = np.round(255 * pixels.reshape(28, 28, -1)[:, :, 0]) - 127
        axes.imshow(signed, cmap='RdBu', vmin=-127, vmax=127)
        axes.set_title(digit, fontweight='bold', pad=3)
        axes.set(xticks=[], yticks=[])
    return figure


def draw_mistakes(log_dir, test):
    """Draw test images that the network reads wrongly, those first of which it is most certain."""
    starts = range(0, test.num_examples, 1000)
    feeds = ({'x:0': test.images[i : i + 1000], 'keep_prob:0': 1.0} for i in starts)
    with trained_network(log_dir) as sess:
        found = np.concatenate([sess.run('fc2/probabilities:0', feed) for feed in feeds])
    read = found.argmax(1)
    wrong = np.flatnonzero(read != test.labels)
    wrong = wrong[np.argsort(-found.max(1)[wrong], kind='stable')]
    columns, rows = 12, max(1, min(3, -(-len(wrong) // 12)))
    figure, grid = plt.subplots(rows, columns, figsize=(WIDTH, 0.9 * rows), constrained_layout=True)
    for axes in grid.flat:
        axes.axis('off')
    for axes, i in zip(grid.flat, wrong):
        axes.imshow(test.images[i].reshape(28, 28), cmap='gray_r')
        axes.set_title(f'{test.labels[i]} → {read[i]}', fontsize=10, pad=2)
    print(f'{len(wrong)} mistakes, {min(len(wrong), rows * columns)} of them drawn')
    return figure


def photograph_tensorboard(log_dir):
    """Take a picture of the graph page of a real TensorBoard in a real Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    flags = (
        'headless=new no-sandbox disable-gpu disable-quic no-first-run disable-sync '
        'disable-background-networking disable-component-update '
        'window-size=1300,1180 force-device-scale-factor=1.5'
    )
    for flag in [*flags.split(), f'user-data-dir={tempfile.mkdtemp()}']:
        options.add_argument('--' + flag)
    board = subprocess.Popen(
        [sys.executable, '-m', 'tensorboard.main', '--logdir', log_dir, '--port', '0'],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = (re.search(r'http://\S+', line) for line in board.stderr)
        address = next(line.group() for line in lines if line)
        with webdriver.Chrome(options, Service(shutil.which('chromedriver'))) as browser:
            browser.get(address + '#graphs')
            time.sleep(20)  # it draws when it has computed the layout
            page = plt.imread(io.BytesIO(browser.get_screenshot_as_png()))[:, :, :3]
    finally:
        board.kill()
        board.communicate()
    graph = page[103:, 528:]  # without TensorBoard's own bars
    rows, columns = np.where(graph.min(2) < 0.99)
    graph = graph[: rows.max() + 20, : columns.max() + 20]
    figure = plt.figure(figsize=(graph.shape[1] / 200, graph.shape[0] / 200))
    figure.figimage(graph)
    return figure


def values(log_dir, tag):
    """Yield the steps and values that a run has written under a tag."""
    for name in sorted(os.listdir(log_dir)):
        if 'tfevents' in name:
            for event in tf.train.summary_iterator(os.path.join(log_dir, name)):
                for value in event.summary.value:
                    if value.tag == tag:
                        yield event.step, value


def scalars(log_dir, tag):
    """Return the steps and the values of a curve; a step that was repeated counts once."""
    return zip(*sorted({step: v.simple_value for step, v in values(log_dir, tag)}.items()))


if __name__ == '__main__':
    main()
