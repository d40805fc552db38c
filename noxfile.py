"""Sessions that CI and developers run: `nox -l` lists them. All but `tests` use the tested set."""

import nox

nox.options.sessions = ["lint", "types", "imports", "tests", "validate"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13"]
CONSTRAINTS = ("-c", "constraints.txt")
# torch is the tested one in both: an older one has no small CPU build on the package index.
OLDEST = ("transformers==5.17.0", "diffusers==0.42.0", "torch==2.13.0")


@nox.session(python=PYTHONS)
@nox.parametrize("libraries", ["oldest", "newest"])
def tests(session: nox.Session, libraries: str) -> None:
    """The test suite, on the oldest and the newest supported transformers and diffusers."""
    if libraries == "oldest":
        session.install(*OLDEST, "-e", ".[test]")
    else:
        session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("pytest", *session.posargs)


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
def benchmarks(session: nox.Session) -> None:
    """Speed, as ratios within one run; not part of CI."""
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("pytest", "benchmarks", "--benchmark-only", *session.posargs)


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """The tests that need a CUDA device, with the libraries of the current environment."""
    session.run("python", "-m", "pytest", "-m", "gpu", *session.posargs)
