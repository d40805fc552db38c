"""Sessions that CI and developers run: `nox -l` lists them. All but `tests` use the tested set."""

import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "imports", "workflows", "tests", "validate"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13"]
CONSTRAINTS = ("-c", "constraints.txt")
RELEASES = "4.57.6,5.0.0,5.2.0,5.4.0,5.5.4,5.6.0,5.8.1,5.12.1,5.13.0,5.17.0,5.20.2,5.23.0"
# torch is the tested one in both: an older one has no small CPU build on the package index.
LIGHT = (
    "import sys, theworld, theworld_validate; "
    "heavy = {'torch', 'transformers', 'diffusers', 'numpy', 'matplotlib', 'pydantic'} & set(sys.modules); "
    "sys.exit(f'imported at once: {sorted(heavy)}' if heavy else 0)"
)
OLDEST = ("transformers==5.17.0", "diffusers==0.42.0", "torch==2.13.0")


@nox.session(python=PYTHONS)
@nox.parametrize("libraries", ["oldest", "newest"])
def tests(session: nox.Session, libraries: str) -> None:
    """The test suite, on the oldest and the newest supported transformers and diffusers."""
    if libraries == "oldest":
        session.install(*OLDEST, "-e", ".[test]")
    else:
        session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install(*CONSTRAINTS, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types."""
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("pyrefly", "check")


@nox.session
def imports(session: nox.Session) -> None:
    """Import contracts: data flows one way."""
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("lint-imports")


@nox.session
def validate(session: nox.Session) -> None:
    """The product on its embedded default."""
    session.install(*CONSTRAINTS, "-e", ".")
    session.run("theworld-validate", *session.posargs)


@nox.session
def workflows(session: nox.Session) -> None:
    """CI's own files: what zizmor finds in them without the network."""
    session.install(*CONSTRAINTS, "zizmor")
    session.run("zizmor", "--offline", "--no-progress", ".github/workflows", "docs/ci/github-actions.yml")


@nox.session
def docs(session: nox.Session) -> None:
    """The documents as a site in build/site; a dead link, or anything that a page loads from the net, ends it."""
    session.install(*CONSTRAINTS, "-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(venv_backend="none")
def browser(session: nox.Session) -> None:
    """The report's page in Debian's chromium, with the current environment."""
    session.run("python", "-m", "pytest", "-m", "browser", *session.posargs)


@nox.session
def release_check(session: nox.Session) -> None:
    """Before a release: build, look into the archives, install the wheel alone, run it, compare with the baseline."""
    scratch = Path(session.create_tmp()).resolve()
    dist, report = scratch / "dist", scratch / "report"
    shutil.rmtree(dist, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(dist), ".")
    session.run("python", "tools/check_release.py", str(dist))
    (wheel,) = dist.glob("*.whl")
    session.install(*CONSTRAINTS, str(wheel))
    with session.chdir(scratch):  # where no source is beside it
        session.run("python", "-c", LIGHT)
        session.run("theworld-validate", "--output", str(report))
    # 3: the baseline is of another kind of machine; it is said, and is no failure of the release.
    session.run("theworld-validate", "regress", "reports/cpu-tiny", str(report), success_codes=[0, 3])


@nox.session
def fuzz(session: nox.Session) -> None:
    """Every reader of a document from outside, asked with 2,000 damaged ones each; the test suite asks with fewer."""
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("pytest", "-n", "auto", "-k", "fuzz", *session.posargs, env={"FUZZ_EXAMPLES": "2000"})


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Speed, as ratios within one run; not part of CI."""
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("pytest", "benchmarks", "--benchmark-only", *session.posargs)


@nox.session
def families(session: nox.Session) -> None:
    """The table of reports/families: more than twenty families, five faults each; about ten minutes."""
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("python", "-m", "benchmarks.families", *session.posargs)


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """The tests that need a CUDA device, with the libraries of the current environment."""
    session.run("python", "-m", "pytest", "-m", "gpu", *session.posargs)


@nox.session
def ordinary(session: nox.Session) -> None:
    """transformers' common model tests: what Gemma 3 passes, TheWorld must pass, with its branch off and on."""
    session.install(*CONSTRAINTS, "-e", ".[test]", "parameterized")
    session.run("python", "tests/ordinary/compare.py", *session.posargs)


@nox.session
def ecosystem(session: nox.Session) -> None:
    """TRL, bitsandbytes, torchao, datasets and TensorBoard, in their newest releases."""
    session.install(*CONSTRAINTS, "-e", ".[test,train]", "trl", "bitsandbytes", "torchao")
    session.run("pytest", *map(str, sorted(Path("tests/ordinary").glob("ecosystem_*tests.py"))), *session.posargs)


@nox.session
def releases(session: nox.Session) -> None:
    """Twelve releases of transformers on the tiny checkpoint, by pip from the package index: they do differ."""
    session.install(*CONSTRAINTS, "-e", ".")
    session.run(
        "theworld-validate",
        "releases",
        "--versions",
        RELEASES,
        "--dtype",
        "float32",
        *session.posargs,
        success_codes=[0, 1],
    )


@nox.session
def real_bugs(session: nox.Session) -> None:
    """Released upstream bugs, each in the release that had it and in the one that mended it, by pip from the index."""
    session.install(*CONSTRAINTS, "-e", ".")
    session.run("python", "-m", "benchmarks.real_bugs", *session.posargs)
