"""`python -m shopfit`: the command line, for launchers such as `accelerate launch -m shopfit adapter …`."""

from shopfit.cli import main

main()
