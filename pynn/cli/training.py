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
from pynn.cli.errors import UsageError
from pynn.cli.figures import classification_figures
from pynn.cli.formats import require_npz
from pynn.cli.networks import network
from pynn.cli.places import keep_apart
from pynn.cli.signals import uninterrupted
from pynn.cli.streams import put
from pynn.data import Dataset, InputFormat, Standardize, load_image_folder, load_npz
from pynn.data.images import MAX_SIDE
from pynn.files import WriteError, check_writable, write_somewhere
from pynn.io import ModelFileError, require_safetensors, save
from pynn.losses import CrossEntropyLoss
from pynn.optim import AdamW, decay_groups
from pynn.schedules import OneCycle
from pynn.solver import Solver, TrainingDiverged
from pynn.text import shown

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
    data = _training_data(arguments)
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
                "data": shown(data.name),
                "seed": arguments.seed,
                "epochs": solver.run.epochs,
                "lr": arguments.lr,
            },
        }
        place, error = write_somewhere(out, lambda path: save(model, path, metadata=metadata))
        if error is not None:
            raise UsageError(f"{error}; the model was put at {shown(place)}") from error
        return shown(out)

    def keep_best() -> str:
        """After a training that was broken off: writes the best model so far, and says how to go on."""
        with uninterrupted():
            if not begun.use_best(solver):
                return f"no model was written, {shown(out)} is as it was"
            done = f"of {solver.run.epochs} epochs of {arguments.epochs}"
            return f"{write()} has the best model {done}"

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


def _training_data(arguments) -> Dataset:
    path = arguments.data
    if path.is_dir():
        size, grayscale = arguments.image_size, arguments.grayscale
        if size is not None and size > MAX_SIDE:
            raise UsageError(f"--image-size {size}: expected a whole number from 1 to {MAX_SIDE}")
        return load_image_folder(path, image_size=size, grayscale=grayscale, seed=arguments.seed)
    if arguments.image_size is not None or arguments.grayscale:
        raise UsageError("--image-size and --grayscale are for a folder of images")
    if not path.exists():
        raise UsageError(
            f"there is no file or folder {shown(path)}: give an .npz file, or a folder with images by class"
        )
    if not path.is_file():
        raise UsageError(f"{shown(path)} is neither a file nor a folder: give an .npz file, or a folder of images")
    require_npz(path, labels=True)
    return load_npz(path, seed=arguments.seed)
