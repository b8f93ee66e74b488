"""Colours and sizes of README's pictures."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba

# Places in the palette: matplotlib looks the colours up when it draws.
GREY, BLUE, ORANGE, RED, INK = 'C0', 'C1', 'C2', 'C3', 'C4'
PALETTES = {
    'light': ('#59636e', '#0969da', '#bc4c00', '#cf222e', '#1f2328'),
    'dark': ('#9198a1', '#4493f8', '#db6d28', '#f85149', '#f0f6fc'),
}
WIDTH = 8.3  # inches, each of them 100 pixels wide in README and 200 in the file
SMALL, NORMAL = 8, 9  # points: 11 and 12.5 pixels in README


def draw_for(page):
    """Draw all that follows for a light or a dark page."""
    texts = 'text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color', 'ytick.color'
    plt.rcParams.update(dict.fromkeys(texts, GREY))
    plt.rcParams['axes.prop_cycle'] = plt.cycler(color=PALETTES[page])
    plt.rcParams['font.size'] = NORMAL


def colour_scale(weights):
    """Return a scale from red through nothing to blue, which single large weights do not set."""
    end = np.percentile(abs(weights), 99)
    red, blue = (np.array(to_rgba(colour)) for colour in (RED, BLUE))
    clear = np.array([1, 1, 1, 0])
    colours = [(0, red), (0.5, red * clear), (0.5, blue * clear), (1, blue)]
    return {'cmap': LinearSegmentedColormap.from_list('', colours), 'vmin': -end, 'vmax': end}
