"""Owns `pynn train`: a classifier of a user's own images or features, in one model file.

The file's metadata hold the class names, the form of the samples and their standardisation, so that `predict`
needs nothing else; nothing in it depends on time. After every epoch the training is kept in a checkpoint
(`pynn.cli.begun`): however it ends, nothing that was finished is lost.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pynn.cli.begun import Begun
from pynn.cli.budget import COPIES, in_words, own_memory, require_memory, training_memory
from pynn.cli.errors import UsageError
from pynn.cli.figures import classification_figures
from pynn.cli.formats import require_npz
from pynn.cli.networks import network, weights_of
from pynn.cli.places import keep_apart
from pynn.cli.signals import uninterrupted
from pynn.cli.streams import put
from pynn.data import Dataset, DataSize, InputFormat, Standardize, data_size, load_image_folder, load_npz
from pynn.data.images import MAX_SIDE
from pynn.files import WriteError, check_writable, write_somewhere
from pynn.io import ModelFileError, require_safetensors, save
from pynn.losses import CrossEntropyLoss
from pynn.optim import AdamW, decay_groups
from pynn.schedules import OneCycle
from pynn.solver import Solver, TrainingDiverged
from pynn.text import clean

__all__ = ["train"]

GO_ON = "the same command with --resume goes on"


def train(arguments) -> None:
    """Trains on `arguments.data` and writes the model file; the test part is used once, at the end."""
    require_safetensors()
    out, checkpoint = arguments.out, arguments.checkpoint or Path(f"{arguments.out}.checkpoint")
    keep_apart("--out", out, {"the data": arguments.data})
    keep_apart("--checkpoint", checkpoint, {"the data": arguments.data, "the model": out})
    check_writable(out)
    check_writable(checkpoint)
    begun = Begun(checkpoint, arguments)
    _require_memory(arguments)
    data = _read(arguments)
    rng = np.random.default_rng(arguments.seed)
    model = network(arguments.model, data.input_shape, arguments.hidden, len(data.classes), rng)
    standardize = Standardize.from_data(data.x_train)
    solver = Solver(
        model,
        CrossEntropyLoss(),
        AdamW(decay_groups(model, weight_decay=0.01), arguments.lr),
        batch_size=arguments.batch_size,
        schedule=OneCycle(),
        transform=standardize,
        rng=rng,
        callbacks=[begun],
    )
    print(f"pynn: training on {data.describe()}", file=sys.stderr)
    begun.take_up(solver)

    def write() -> str:
        """Writes the model as it is, and gives its name; UsageError, with the place, if it was put elsewhere."""
        metadata = {
            "classes": data.classes,
            "input_format": InputFormat.of(data).config(),
            "standardize": standardize.config(),
            "trained_on": {
                "data": clean(data.name),
                "seed": arguments.seed,
                "epochs": solver.run.epochs,
                "lr": arguments.lr,
            },
        }
        place, error = write_somewhere(out, lambda path: save(model, path, metadata=metadata))
        if error is not None:
            raise UsageError(f"{error}; the model was put at {clean(place)}") from error
        return clean(out)

    def keep_best() -> str:
        """After a training that was broken off: writes the best model so far, and says how to go on."""
        with uninterrupted():
            if not begun.use_best(solver):
                return f"no model was written, {clean(out)} is as it was"
            done = f"{solver.run.epochs} of {arguments.epochs} epochs are done"
            return f"{write()} has the best model so far ({done})"

    validation_data = (data.x_val, data.y_val) if len(data.y_val) else None
    try:
        solver.fit(
            data.x_train,
            data.y_train,
            epochs=arguments.epochs,
            validation_data=validation_data,
            checkpoint=checkpoint,
            time_limit=arguments.time_limit,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{keep_best()}; {GO_ON}") from None
    except ModelFileError as error:
        raise begun.other_run(error) from error
    except TrainingDiverged as error:
        raise UsageError(
            f"{error.finding}: begin anew with --restart and a lower --lr (now {arguments.lr:g}); {keep_best()}"
        ) from error
    except WriteError as error:
        raise UsageError(f"{error}; {keep_best()}; {GO_ON}") from error
    except MemoryError as error:
        remedy = "use a smaller --batch-size or --image-size"
        raise UsageError(f"not enough memory: {remedy}; {keep_best()}") from error
    place = write()
    if solver.ended_by == "time_limit":
        done = f"{solver.run.epochs} of {arguments.epochs} epochs"
        put(f"The time limit ended the training after {done}: {GO_ON}.\n", kept=f"the model is {place}")
    else:
        begun.finish()
    if len(data.y_test):
        try:
            y_pred = solver.predict(data.x_test)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"the model is {place}, its test accuracy is not known") from None
        put(
            f"{classification_figures(data.name, data.y_test, y_pred, data.classes)}\n",
            kept=f"the model is {place}",
        )
    put(f"The model is {place}.\n", kept=f"the model is {place}")


def _size(arguments) -> DataSize:
    """What will be read of `arguments.data`, from names and headers alone; UsageError for what cannot be."""
    path, size = arguments.data, arguments.image_size
    if not path.exists():
        raise UsageError(
            f"there is no file or folder {clean(path)}: give an .npz file, or a folder with images by class"
        )
    if not path.is_dir():
        if size is not None or arguments.grayscale:
            raise UsageError("--image-size and --grayscale are for a folder of images")
        if not path.is_file():
            raise UsageError(
                f"{clean(path)} is neither a file nor a folder: give an .npz file, or a folder of images"
            )
        require_npz(path, labels=True)
    elif size is not None and size > MAX_SIDE:
        raise UsageError(f"--image-size {size}: expected a whole number from 1 to {MAX_SIDE}")
    return data_size(path, image_size=size, grayscale=arguments.grayscale)


def _require_memory(arguments) -> None:
    """Says how much memory the training will take; UsageError where it is not there."""
    size = _size(arguments)
    images = len(size.shape) == 3
    smaller = (
        f"a smaller --image-size (now {size.shape[1]}×{size.shape[2]}), " if images else "less data, or a smaller "
    )
    remedy = f"give {smaller}--batch-size (now {arguments.batch_size}) or --hidden (now {arguments.hidden})"
    require_memory(4 * COPIES * weights_of(arguments.model, size.shape, arguments.hidden), remedy)
    model = network(arguments.model, size.shape, arguments.hidden, 2, np.random.default_rng(0))
    needed = training_memory(model, size, arguments.batch_size)
    print(f"pynn: training will take about {in_words(own_memory() + needed)} of memory", file=sys.stderr)
    require_memory(needed, remedy)


def _read(arguments) -> Dataset:
    if arguments.data.is_dir():
        options = {"image_size": arguments.image_size, "grayscale": arguments.grayscale}
        return load_image_folder(arguments.data, seed=arguments.seed, **options)
    return load_npz(arguments.data, seed=arguments.seed)
