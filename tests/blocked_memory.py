"""What tests of the blocked engine share: memory that shows who wrote beside it, and who left some of it out."""

import numpy as np

from cnn_ext import blocked

MARGIN = 64  # elements on each side of an array


class Memory:
    """Arrays full of NaN between guards, which are NaN as well, so that reading them shows.

    The bits are each array's own: a sum of guards, written past an array, is not what was there.
    """

    def __init__(self):
        self.taken = []

    def new(self, count, dtype=np.float32):
        guard = np.array(0x7FC10000 + len(self.taken), np.uint32).view(np.float32) if dtype is np.float32 else 0xA5
        whole = np.full(count + 2 * MARGIN, guard, dtype)
        self.taken.append((whole, whole.tobytes()))
        inside = whole[MARGIN : MARGIN + count]
        inside[...] = np.nan if dtype is np.float32 else 0xFF
        return inside

    def check(self):
        """Fails where a guard was written."""
        for whole, before in self.taken:
            edge, after = MARGIN * whole.itemsize, whole.tobytes()
            assert after[:edge] == before[:edge], "written before an array"
            assert after[-edge:] == before[-edge:], "written past an array"

    def copy(self, array):
        inside = self.new(array.size).reshape(array.shape)
        inside[...] = array
        return inside

    def blocks_of(self, shape, lanes=None, batch=blocked.BATCH):
        """Blocks full of NaN."""
        lanes = lanes or blocked.lanes_for(shape[1])
        return blocked.Blocks(self.new(blocked.blocks_size(shape, lanes)), shape, lanes, batch)

    def blocks(self, x, lanes=None, batch=blocked.BATCH):
        out = self.blocks_of(x.shape, lanes, batch)
        blocked.pack(x, out)
        return out

    def image(self, x, padding):
        out = blocked.Image(self.new(blocked.image_size(x.shape, padding)), x.shape, padding)
        blocked.pack(x, out)
        return out

    def pixels(self, x, padding):
        n, c, h, w = x.shape
        size = n * c * (h + 2 * padding[0]) * (w + 2 * padding[1])
        out = blocked.Pixels(self.new(size), x.shape, padding)
        blocked.pack(x, out)
        return out

    def weights(self, make, array):
        return make(self.copy(array))

    def unpack(self, x):
        out = self.new(int(np.prod(x.shape))).reshape(x.shape)
        blocked.unpack(x, out)
        return out


def run(steps, n_threads=2, *, twice=False):
    """Runs steps in their order; twice, as a plan does, which must change nothing."""
    for _ in range(2 if twice else 1):
        for step in steps:
            step(n_threads)
