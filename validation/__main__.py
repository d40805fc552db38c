"""`python -m validation` is `theworld-validate`."""

from validation.cli import main

main()
