"""Owns inference by onnxruntime, from the ONNX file that the `export` of `networks_torch.py` has written."""

import onnxruntime


def convert(job, x, y):
    return x, y


def predictor(job, state):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
    path = job.folder / f"{job.network}-{job.batch}.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]
