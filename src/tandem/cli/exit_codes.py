"""The exit codes of `tandem`, as `tandem --help` and docs/commands.md list them."""

DONE, SOME_SKIPPED, NOT_DONE = 0, 1, 2
FLAGGED = 3  # what `moderate --fail-on` was asked to report
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: an error nobody foresaw
TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: a scheduler took the machine away; start the same command again
INTERRUPTED = 130  # 128 + SIGINT, as shells count
PIPE_CLOSED = 141  # 128 + SIGPIPE: whoever read the output has seen enough

MEANINGS = {
    DONE: "done",
    SOME_SKIPPED: "done, but some inputs were skipped (they are listed)",
    NOT_DONE: "not done, one line says why",
    FLAGGED: "done, and a photo is in the band of moderate --fail-on, or a worse one",
    INTERNAL_ERROR: "an unexpected error; --debug shows where",
    INTERRUPTED: "interrupted by Ctrl-C",
    PIPE_CLOSED: "the reader of a pipe left",
}


def exit_code(*, done: int, skipped: int) -> int:
    """The exit code for the numbers of processed and skipped inputs."""
    if not skipped:
        return DONE
    return SOME_SKIPPED if done else NOT_DONE
