"""`python -m examples.chat --bots PATH`: the demo."""

from .demo import main

main()
