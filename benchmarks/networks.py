"""Owns the comparison of whole networks: pynn beside PyTorch and onnxruntime, a training step and inference.

    pip install torch onnx onnxscript onnxruntime    # as far as wanted: what is missing is left out
    python benchmarks/networks.py --out networks.json

Every figure is the median over rounds of a process's median step. A process runs one peer, and a round runs all of
them in turn, so that a slower minute of the machine meets all alike. They start from the same weights and use the
same number of threads; in the first round each is compared with pynn's plain model before it is timed
(`networks_worker.py`), and a mismatch ends the run.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from networks_worker import CASES

import pynn
from pynn.environment import describe
from pynn.files import WriteError, check_writable, write_atomic

NEEDS = {"torch": ["torch"], "onnxruntime": ["onnxruntime", "torch", "onnx", "onnxscript"]}
INFERENCE_BATCHES = (100, 1)
ROW = "{:<20} {:<6} {:>5} {:>10} {:>26} {:>10} {:>7}"


class WorkerFailed(Exception):
    """A process ended without a figure; the message is the last line that it wrote."""


def work(args, folder: Path, network: str, mode: str, batch: int, peer: str, *options: str) -> dict:
    """What a worker process prints, as a dict, with what else the machine did meanwhile."""
    command = [sys.executable, str(Path(__file__).with_name("networks_worker.py")), network, mode, str(batch)]
    command += [*peer.split(), "--folder", str(folder), "--threads", str(args.threads)]
    command += ["--seconds", str(args.seconds), *options]
    environment, before = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}, ticks()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise WorkerFailed(f"{network}, {mode}, batch {batch}, {peer}: {reason}")
    return json.loads(done.stdout.splitlines()[-1]) | disturbance(before)


def ticks() -> dict[str, float]:
    """Processor time so far, of all processors and of this run, in ticks; empty where /proc/stat is not."""
    try:
        fields = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    except OSError:  # not Linux
        return {}
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields)
    busy = user + nice + system + irq + softirq
    own = sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")
    return {"total": busy + idle + iowait + steal, "steal": steal, "others": busy - own}


def disturbance(before: dict[str, float]) -> dict[str, float]:
    """The shares of processor time since `before` that the host took away and that other processes used."""
    spent = {name: now - before[name] for name, now in ticks().items()}
    return {name: spent[name] / max(spent["total"], 1) for name in ("steal", "others") if spent}


def peers_of(args, mode: str, network: str, installed: set[str]) -> list[str]:
    peers = ["pynn"]
    if "torch" in installed:
        peers += ["torch eager"] + ["torch channels_last"] * (len(CASES[network].shape) == 3)
        peers += ["torch compile"] * (args.compile == "all" or args.compile == mode)
    return peers + ["onnxruntime"] * (mode == "infer" and "onnxruntime" in installed)


def compare(args, folder: Path, network: str, mode: str, batch: int, peers: list[str]) -> dict:
    """One row: all rounds of all peers, and the medians. Only torch.compile may fail."""
    runs: dict[str, list[dict]] = {peer: [] for peer in peers}
    row = {"network": network, "mode": mode, "batch": batch, "unavailable": None}
    if "onnxruntime" in peers:
        work(args, folder, network, "export", batch, "torch eager")
    for options in [["--verify"]] + [[]] * (args.rounds - 1):
        for peer in list(runs):
            try:
                runs[peer].append(work(args, folder, network, mode, batch, peer, *options))
            except WorkerFailed as failure:
                if peer != "torch compile" or ": mismatch" in str(failure):
                    raise
                row["unavailable"] = str(failure)
                del runs[peer]
    ms = {peer: statistics.median(run["ms"] for run in runs[peer]) for peer in runs}
    others = [time for peer, time in ms.items() if peer != "pynn"]
    return row | {"ms": ms, "ratio": min(others) / ms["pynn"] if others else None, "runs": runs}


def line(row: dict) -> str:
    ms = row["ms"]
    torch = min((peer for peer in ms if peer.startswith("torch")), key=ms.__getitem__, default=None)
    return ROW.format(
        CASES[row["network"]].title,
        row["mode"],
        row["batch"],
        milliseconds(ms["pynn"]),
        f"{milliseconds(ms[torch])} ({torch.partition(' ')[2]})" if torch else "-",
        milliseconds(ms["onnxruntime"]) if "onnxruntime" in ms else "-",
        "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
    )


def milliseconds(value: float) -> str:
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 3}f}"


def run(args) -> None:
    pynn.set_num_threads(args.threads)  # refuses what is impossible; for `describe` too
    if args.out:
        check_writable(args.out)
    missing = {peer: [name for name in NEEDS[peer] if not importlib.util.find_spec(name)] for peer in NEEDS}
    for peer, names in missing.items():
        if names:
            print(f"{peer} is left out, as it needs {', '.join(names)}: pip install {' '.join(names)}")
    installed = {peer for peer, names in missing.items() if not names}
    environment = describe() | {peer: metadata.version(peer) for peer in sorted(installed)}
    result: dict = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "environment": environment}
    result |= {"rounds": args.rounds, "seconds": args.seconds, "rows": (rows := [])}
    before = ticks()
    print(ROW.format("network", "mode", "batch", "pynn ms", "best of torch, ms", "ORT ms", "ratio"))
    with tempfile.TemporaryDirectory() as name:
        for network in args.networks:
            work(args, Path(name), network, "reference", CASES[network].batch, "pynn")
            for mode in args.modes:
                peers = peers_of(args, mode, network, installed)
                for batch in (CASES[network].batch,) if mode == "train" else INFERENCE_BATCHES:
                    rows.append(compare(args, Path(name), network, mode, batch, peers))
                    result |= disturbance(before)
                    print(line(rows[-1]), flush=True)
                    if rows[-1]["unavailable"]:
                        print(f"  torch.compile is unavailable: {rows[-1]['unavailable']}")
                    if args.out:
                        write_atomic(args.out, json.dumps(result, indent=1))
    versions = ", ".join(f"{name} {environment[name]}" for name in ("pynn", "numpy", *sorted(installed)))
    print(f"ratio: the fastest other over pynn. {environment['processor']}, {args.threads} threads; {versions}")
    if "steal" in result:
        share = "processor time taken away by the host: {steal:.1%}, used by other processes: {others:.1%}"
        print(share.format(**result))
        if result["steal"] + result["others"] > 0.05:
            print("these figures are not to be relied on: repeat them on an idle machine")


def main() -> None:
    parser = argparse.ArgumentParser(description="pynn beside PyTorch and onnxruntime, on whole networks")
    parser.add_argument("--networks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--modes", nargs="+", choices=["train", "infer"], default=["train", "infer"])
    parser.add_argument("--rounds", type=int, default=3, help="processes per peer (default 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="timed in each process (default 2)")
    parser.add_argument("--threads", type=int, default=2, help="of every peer (default 2)")
    compiled: dict = {"nargs": "?", "const": "train", "choices": ["train", "all"]}
    parser.add_argument("--compile", **compiled, help="torch.compile too; alone: in training only")
    parser.add_argument("--out", type=Path, help="JSON file, rewritten after each row")
    try:
        run(parser.parse_args())
    except (WorkerFailed, WriteError) as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
