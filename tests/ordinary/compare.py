"""Runs transformers' common model tests on Gemma 3 and on TheWorld, and says what only Gemma 3 passes.

In: the installed transformers' source distribution, from pip's index; or, as the one argument, a folder: that, or a
checkout of the release, which has the tests of generation too. Out: a table, and exit code 1 where a test that Gemma 3
passes fails for TheWorld, unless `NOT_ASKED` says why it cannot be asked.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
# The source distribution lacks these two, of which the common tests take a class each.
LACKING = {"exporters/test_export.py": "ExportTesterMixin", "generation/test_utils.py": "GenerationTesterMixin"}
GEMMA, WORLDS = "Gemma3Test", ("WorldOffTest", "WorldOnTest")
NOT_ASKED = {
    ("WorldOnTest", "test_eager_matches_sdpa_inference"): "it keeps input_ids and leaves world_frames out",
}


def fetch(folder: Path) -> Path:
    """Download and unpack the installed release's source distribution; return its folder."""
    wanted = f"transformers=={version('transformers')}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", wanted]
    subprocess.run([*pip, "--dest", str(folder)], check=True)
    (archive,) = folder.glob("transformers-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def prepare(source: Path, folder: Path) -> None:
    """Copy the tests to the package `transformers_tests`, with an empty class for each that is lacking."""
    package = folder / "transformers_tests"
    shutil.copytree(source / "tests", package)
    (package / "__init__.py").touch()
    for name, class_name in LACKING.items():
        path = package / name
        if path.exists():  # a checkout's; it names its neighbours by their place there
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace("from tests.", "from transformers_tests."), encoding="utf-8")
        else:
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(f"class {class_name}:\n    pass\n")


def run(folder: Path) -> dict[str, dict[str, str]]:
    """Run the tests; return test -> class -> "passed", "failed" or "skipped"."""
    results = folder / "results.xml"
    paths = [str(folder), str(HERE.parent.parent)]
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider"]
    command += ["-c", os.devnull, "--rootdir", str(HERE.parent.parent), "--junit-xml", str(results)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    subprocess.run([*command, str(HERE / "common_tests.py")], env=environment, check=False, cwd=folder)
    found: dict[str, dict[str, str]] = {}
    for case in ElementTree.parse(results).iter("testcase"):
        tags = {child.tag for child in case}
        status = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        of_test = found.setdefault(case.attrib["name"], {})
        kind = case.attrib["classname"].rpartition(".")[2]
        if of_test.get(kind) != "failed":  # a sub-test's failure is the test's
            of_test[kind] = status
    return found


def main(source: str | None) -> int:
    """Print the table; return the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(Path(source) if source else fetch(folder), folder)
        found = run(folder)
    passed = {test for test, kinds in found.items() if kinds.get(GEMMA) == "passed"}
    print(f"transformers {version('transformers')}: Gemma 3 passes {len(passed)} of {len(found)} common tests")
    lost = 0
    for kind in WORLDS:
        not_asked = {test for test in passed if any(k == kind and test.startswith(name) for k, name in NOT_ASKED)}
        fails = sorted(test for test in passed - not_asked if found[test].get(kind) != "passed")
        lost += len(fails)
        asked = len(passed - not_asked)
        print(f"{kind}: {asked - len(fails)} of {asked} pass, {len(not_asked)} cannot be asked")
        for test in fails:
            print(f"  {test}: {found[test].get(kind, 'not run')}")
    for (kind, name), why in NOT_ASKED.items():
        print(f"not asked: {kind} {name}*: {why}")
    return 1 if lost or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
