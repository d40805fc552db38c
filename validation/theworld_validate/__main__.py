"""`python -m validation` is `theworld-validate`."""

from theworld_validate.cli import main

main()
