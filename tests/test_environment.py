"""The description of the machine that results.json keeps."""

import json
from importlib import metadata

import numpy as np

import cnn_ext
from pynn.environment import _processor, describe


def test_is_json_and_tells_what_ran():
    environment = json.loads(json.dumps(describe()))
    assert environment["numpy"] == np.__version__
    assert environment["pynn"] == metadata.version("pynn-cnn")
    assert environment["isa"] in environment["isas"].split(", ")
    assert environment["isas"].endswith("baseline")
    assert environment["cpus"] >= 1
    assert environment["openmp"] == cnn_ext.openmp_enabled()
    assert environment["processor"]


def test_threads_are_those_in_use():
    before = cnn_ext.get_num_threads()
    cnn_ext.set_num_threads(1)
    try:
        assert describe()["threads"] == 1
    finally:
        cnn_ext.set_num_threads(before)


def test_lists_only_installed_packages():
    for name, version in describe()["packages"].items():
        assert metadata.version(name) == version


def test_a_package_that_is_missing_is_left_out(monkeypatch):
    monkeypatch.setattr("pynn.environment._OPTIONAL", ("no-such-package", "pytest"))
    assert describe()["packages"] == {"pytest": metadata.version("pytest")}


def test_processor_from_cpuinfo(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel\t: 7\nmodel name\t: Some CPU @ 2 GHz\n"
    )
    assert _processor(str(cpuinfo)) == "Some CPU @ 2 GHz"
    assert _processor(str(tmp_path / "none"))
    cpuinfo.write_bytes(b"model name\t: caf\xe9\n")
    assert _processor(str(cpuinfo)) == "caf\ufffd"
