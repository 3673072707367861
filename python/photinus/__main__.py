"""`python -m photinus`: the command line."""

from .cli import main

main(prog_name="photinus")
