"""The command `tandem`, as a script and as `python -m tandem`. Handles Ctrl-C before it imports anything else."""

import sys


def run() -> int:
    """The command of this process. Gives the exit code, also for a Ctrl-C while the command line is imported."""
    try:
        from tandem.cli import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("tandem: interrupted\n")
        return 130  # `exit_codes.INTERRUPTED`, which may not be imported yet


if __name__ == "__main__":
    sys.exit(run())
