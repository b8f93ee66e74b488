"""README: its blocks pasted, its commands run, its files there, the same in both languages."""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from photograph import photograph

import input_data
import mnist_deep
import mnist_softmax

ROOT = Path(input_data.__file__).parent
REAL_MNIST = os.environ.get('MNIST_DATA_DIR')
PAGES = ['README.md', 'README.zh-CN.md', 'MNIST_data/README.md']
README = (ROOT / 'README.md').read_text(encoding='utf-8')

MY_RUN = 'python mnist_deep.py --log_dir my_run'
LONG_RUN = REAL_MNIST and os.environ.get('MNIST_LOG_DIR')  # absolute, of 20,000 steps on MNIST

SHORTER = {
    'python mnist_deep.py --max_steps 1000': 'python mnist_deep.py --max_steps 1',
    MY_RUN: MY_RUN + ' --max_steps 500 --seed 1',
}

# TensorFlow 2 prints these at any log level, and README says so.
UNAVOIDABLE = (
    'All log messages before absl::InitializeLog()',
    'MLIR V1 optimization pass',
    'oneDNN custom operations are on',
    'Could not find cuda drivers',
)


def blocks(page, language):
    return re.findall(rf'^```{language}\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)


(READ_DIGIT,) = (block for block in blocks(README, 'python') if 'def read_digit' in block)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What a reader has in a clone, and MNIST in it, or the bundled digits in its place."""
    folder = tmp_path_factory.mktemp('clone')
    for name in 'input_data.py', 'mnist_softmax.py', 'mnist_deep.py':
        shutil.copy(str(ROOT / name), str(folder))
    data = REAL_MNIST or input_data.SAMPLE_DIR
    (folder / 'MNIST_data').symlink_to(os.path.abspath(data))
    return folder


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
    """The activated virtual environment that the tests run in, as a user has it."""
    environment = dict(
        os.environ,
        PATH=os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH'],
        IPYTHONDIR=str(tmp_path_factory.mktemp('ipython')),
    )
    environment.pop('TF_XLA_FLAGS', None)  # which other tests set
    return environment


@pytest.fixture(scope='module')
def my_run(folder, environment):
    """The network that README has its reader train."""
    assert MY_RUN + '\n' in blocks(README, 'sh')
    result = run(SHORTER[MY_RUN], folder, environment)
    assert result.returncode == 0, result.stderr
    return result


def run(command, folder, environment):
    options = {'cwd': str(folder), 'env': environment, 'capture_output': True, 'text': True}
    return subprocess.run(['bash', '-ec', command], **options)


def unexpected(printed):
    lines = printed.strip().splitlines()
    return [line for line in lines if not any(part in line for part in UNAVOIDABLE)]


@pytest.fixture(scope='module')
def test_set(folder):
    return input_data.read_data_sets(str(folder / 'MNIST_data'), dtype=np.uint8, reshape=False).test


@pytest.fixture(scope='module', params=['IPython', 'python'])
def pasted(request, folder, environment, my_run, test_set):
    """What the Python blocks of README print, pasted in order."""
    pixels = photograph(test_set.images[0, :, :, 0] / 255, (480, 640), np.random.RandomState(1))
    write(folder / 'my_digit.jpg', pixels)
    cells = [block.replace('range(20000)', 'range(101)') for block in blocks(README, 'python')]
    (folder / 'cells').write_text(''.join(cell + '\n' for cell in cells))  # and an empty line
    ways = {'IPython': 'ipython --no-term-title -c "$(cat cells)"', 'python': 'python -iq < cells'}
    result = run(ways[request.param], folder, environment)
    assert unexpected(re.sub(r'>>> |\.\.\. ', '', result.stderr)) == []
    return result.stdout


def test_blocks_print_what_readme_says(pasted, test_set):
    tutorial = '\n'.join(blocks(README.partition('\n## Use your own digit')[0], 'python'))
    *shown, step, test = re.findall(r'^ *print\(.*\)\s+# (.*)$', tutorial, re.MULTILINE)
    shown += [step, step, test]  # of 101 steps, each hundredth is printed
    *printed, first, second = pasted.splitlines()
    number = r'\d+(?:\.\d*)?'
    words = [[re.sub(number, '', x.replace('about ', '')) for x in y] for y in (printed, shown)]
    assert words[0] == words[1]
    assert printed[2:4] == shown[2:4]  # `a + b` in the graph, and its value
    softmax, (i, step_0), (j, step_100), (accuracy,) = (
        [float(found) for found in re.findall(number, line)] for line in printed[4:]
    )
    assert (i, j) == (0, 100)
    if REAL_MNIST:
        assert printed[:2] == shown[:2]  # the shapes, and the first label
        assert softmax == pytest.approx([float(shown[4].split()[-1])], abs=0.03)  # without a seed
        assert step_0 < 0.5 < step_100
    assert softmax[0] > 0.7
    assert accuracy > (0.75 if REAL_MNIST else 0.5)

    assert first == f'This is a {test_set.labels[0]}.'
    assert re.fullmatch(', '.join(rf'{i}: [01]\.\d\d\d' for i in range(10)), second)


@pytest.mark.parametrize('way', ['drawn', 'photographed'])
def test_own_digits(way, folder, my_run, test_set):
    """The first test images, as people might make pictures of them; -s shows how many are read."""
    random, names = np.random.RandomState(1), {}
    exec(READ_DIGIT, names)
    images = []
    for i, ink in enumerate(test_set.images[:100, :, :, 0]):
        if way == 'drawn':
            path, pixels = folder / 'digit.png', drawn(ink, i, random)
        else:
            path, size = folder / 'digit.jpg', np.array([(3, 4), (4, 3)][i % 2])
            size = size * (1000 if i == 0 else random.randint(60, 200))
            pixels = photograph(ink / 255, size, random)
        write(path, pixels)
        with tf.Graph().as_default(), tf.Session() as sess:
            images.append(names['read_digit'](str(path), sess))
    with tf.Graph().as_default(), tf.Session() as sess:
        checkpoint = tf.train.latest_checkpoint(LONG_RUN or str(folder / 'my_run'))
        tf.train.import_meta_graph(checkpoint + '.meta').restore(sess, checkpoint)
        feed_dict = {'x:0': np.concatenate(images), 'keep_prob:0': 1.0}
        digits = sess.run('fc2/probabilities:0', feed_dict).argmax(axis=1)
    right = digits == test_set.labels[:100]
    print(f'{right.sum()} of 100 {way} are read')
    least = {'drawn': (99, 90, 85), 'photographed': (95, 85, 75)}[way]
    assert right.sum() >= least[0 if LONG_RUN else 1 if REAL_MNIST else 2], np.where(~right)


def drawn(ink, way, random):
    """Enlarge and move an image, and colour it in one of several ways."""
    larger = random.randint(1, 15)
    ink = ink.repeat(larger, 0).repeat(larger, 1)
    ink = np.pad(ink, random.randint(0, 100, (2, 2)), 'constant')
    none, full = np.zeros_like(ink), np.full_like(ink, 255)
    blue_on_yellow = np.stack([255 - ink, 220 - ink // 2, 100 + ink // 2], 2)
    return [
        ink,
        255 - ink,
        blue_on_yellow,
        np.dstack([blue_on_yellow, full]),
        np.dstack([none, none, none, ink]),
        np.dstack([full, full, full, ink]),
        np.dstack([none, ink]),
    ][way % 7]


def write(path, pixels):
    """Write uint8 pixels [height, width], or with 1 (grey) to 4 (RGBA) channels."""
    encode = tf.image.encode_jpeg if path.suffix == '.jpg' else tf.image.encode_png
    with tf.Graph().as_default(), tf.Session() as sess:
        path.write_bytes(sess.run(encode(pixels.reshape(*pixels.shape[:2], -1))))


def test_an_empty_picture_is_named(tmp_path):
    names = {}
    exec(READ_DIGIT, names)
    paper = photograph(np.zeros((28, 28)), (480, 640), np.random.RandomState(1))
    transparent = np.zeros((60, 80, 4), np.uint8)
    for name, pixels in ('transparent.png', transparent), ('paper.jpg', paper):
        write(tmp_path / name, pixels)
        empty = pytest.raises(ValueError, match='^no ink in .*' + name)
        with tf.Graph().as_default(), tf.Session() as sess, empty:
            names['read_digit'](str(tmp_path / name), sess)


def test_the_quick_start_prints_what_readme_shows(folder, environment):
    lines = run('python mnist_softmax.py 2>&1', folder, environment).stdout.splitlines()
    printed = '\n'.join(line for line in lines if not any(part in line for part in UNAVOIDABLE))
    differs = r'[CG]PU|0\.\d+( \(bundled digits, not MNIST\))?|\S+/mnist_softmax_\w+'
    (shown,) = blocks(README, 'text')
    printed, shown = (sorted(re.sub(differs, '', x).splitlines()) for x in (printed, shown))
    assert printed == shown


def test_commands_run(folder, environment, my_run):
    """Those after the first two: the network, the one that `my_run` runs, and TensorBoard."""
    short, _, tensorboard = (block.strip() for block in blocks(README, 'sh')[2:])
    result = run(SHORTER[short], folder, environment)
    assert result.stdout.splitlines()[-1].startswith('test accuracy ')
    accuracy = my_run.stdout.splitlines()[-1].split()[2]
    assert float(accuracy) > (0.92 if REAL_MNIST else 0.85)
    result = run(tensorboard + ' --inspect', folder, environment)  # shows the events, then ends
    assert 'summaries/test_accuracy' in result.stdout


@pytest.mark.parametrize('script', [mnist_softmax, mnist_deep])
def test_flags_are_those_of_the_scripts(script, monkeypatch, capsys):
    name = os.path.basename(script.__file__)
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    with pytest.raises(SystemExit):
        script.main()
    rows = re.findall(r'^\| `(--\w+)[^`]*` \| (\S+) \|', README, re.MULTILINE)
    documented = {flag for flag, scripts in rows if scripts in ('both', f'`{name}`')}
    assert documented == set(re.findall(r'--\w+', capsys.readouterr().out)) - {'--help'}


@pytest.mark.parametrize('page', PAGES)
def test_links_resolve(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    text = re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
    anchors = [re.sub(r'[^\w -]', '', x).strip().lower().replace(' ', '-') for x in headings]
    for target in re.findall(r'(?:\]\(|src(?:set)?=")([^)"]+)[)"]', text):
        if target.startswith('#'):
            assert target[1:] in anchors, target
        elif not target.startswith('https://'):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_both_languages_say_the_same():
    chinese = (ROOT / 'README.zh-CN.md').read_text(encoding='utf-8')
    for language in 'sh', 'python', 'text':
        assert blocks(chinese, language) == blocks(README, language)
    pictures = re.compile(r'(?:\(|src(?:set)?=")(images/[^)"]+\.png)')
    assert pictures.findall(chinese) == pictures.findall(README)
    assert numbers(chinese) == numbers(README)


def numbers(page):
    prose = re.sub(r'^```.*?^```$', '', page, flags=re.MULTILINE | re.DOTALL)
    return Counter(re.findall(r'\d+(?:\.\d+)*', prose.replace(',', '')))


def test_accuracies_are_computed_from_the_runs():
    groups = defaultdict(list)
    for row in csv.DictReader((ROOT / 'tests' / 'accuracy.csv').read_text().splitlines()):
        groups[row['command'], row['tensorflow']].append(row)
    assert README.count('\n| `python mnist_') == len(groups)
    accuracies = {}
    for (command, version), rows in groups.items():
        accuracies[command, version] = found = [float(row['test_accuracy']) for row in rows]
        assert [int(row['seed']) for row in rows] == list(range(1, len(rows) + 1))
        mean, error = mean_and_error(found)
        seconds = float(rows[0]['seconds'])  # only seed 1 was run alone, and is timed
        time = f'{seconds:.0f} s' if seconds < 60 else f'{seconds / 60:.1f} min'
        row = f'| `python {command}` | {version} | 1 to {len(found)} | {mean:.4f} ± {error:.4f} | '
        assert row + f'{min(found):.4f} | {max(found):.4f} | {time} |' in README
    for name, unit, size in ('mnist_softmax.py', 'seconds', 1), ('mnist_deep.py', 'minutes', 60):
        lines = len((ROOT / name).read_text(encoding='utf-8').splitlines())
        percent = 100 * np.mean(accuracies[name, '2.20.0'])
        times = sorted(float(g[0]['seconds']) / size for key, g in groups.items() if name == key[0])
        row = f'{lines} lines | {percent:.1f} % | {times[0]:.0f} to {times[-1]:.0f} {unit} |'
        assert f'[{name}]({name}), {row}' in README
    shown = accuracies['mnist_deep.py', '2.20.0'][0]
    assert f'(sum(correct) / len(correct)))  # test accuracy {shown}\n' in README
    pair = (accuracies[name + flag, '2.20.0'] for flag in (' --precision bfloat16', ''))
    mean, error = mean_and_error(np.subtract(*pair))
    assert abs(mean) < 2.26 * error  # Student's t for ten pairs
    assert f'{mean:+.4f} ± {error:.4f} (at 95 %, ± {2.26 * error:.4f})' in ' '.join(README.split())


def mean_and_error(values):
    return np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5


def test_files_of_mnist():
    page = (ROOT / 'MNIST_data' / 'README.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| `(\S+)` \| [^|]+ \| ([\d,]+) \| `(\w{64})` \|$', page, re.MULTILINE)
    found = {name: (int(size.replace(',', '')), sha) for name, size, sha in rows}
    assert found == input_data.MNIST_FILES
