"""``python -m nbchat demo | doctor | record``: parse the arguments and run the command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nbchat.core.errors import NbchatError
from nbchat.core.visible import escape_unencodable, visible


def main(arguments: list[str] | None = None) -> int:
    """Run a command of the command line, and return its exit status.

    Args:
        arguments: the words after ``python -m nbchat``; None for those of this process.
    """
    for stream in (sys.stdout, sys.stderr):
        escape_unencodable(stream)
    options = parser_of_commands().parse_args(arguments)
    try:
        if options.command == "demo":
            from nbchat.command_line.demo import demo

            demo(options.notebook, options.out)
        elif options.command == "record":
            from nbchat.command_line.record import record

            for notebook in options.notebooks:
                print(record(notebook, endpoint=options.endpoint, missing=options.missing), flush=True)
        else:
            from nbchat.engine.doctor import examine
            from nbchat.engine.fault_report import fault_report
            from nbchat.engine.session import Session

            if options.report:
                print(fault_report(Session(), {"kernel": "none: plain Python"}))
                return 0
            return 0 if examine(Session()) else 1
    except NbchatError as error:
        print(visible(f"{type(error).__name__}: {error}"), file=sys.stderr)
        return 1
    return 0


def parser_of_commands() -> argparse.ArgumentParser:
    """Return the parser of the command line. The reference reads its help texts."""
    parser = argparse.ArgumentParser(prog="python -m nbchat", description="Claude in a notebook cell.")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="tell what is installed, and ask one short question")
    doctor.add_argument("--report", action="store_true", help="print what a report of a fault needs; send nothing")
    demo = commands.add_parser("demo", help="run a notebook in a real kernel and print the answers as they arrive")
    demo.add_argument(
        "notebook", nargs="?", type=Path, default=Path("notebooks/quickstart.ipynb"), help="the notebook to run"
    )
    demo.add_argument("--out", type=Path, default=Path("build/demo"), help="the folder for the executed notebook")
    record = commands.add_parser(
        "record", help="run notebooks again, record their cassettes, and save the notebooks as they replay"
    )
    record.add_argument("notebooks", nargs="+", type=Path, help="the notebooks to run")
    # argparse formats help texts with %, so %%%% is shown as %%.
    record.add_argument(
        "--endpoint", help="who answers: anthropic, local, …; by default the endpoint that %%%%claude would choose"
    )
    record.add_argument("--missing", action="store_true", help="keep recorded answers; ask only the other questions")
    return parser


if __name__ == "__main__":
    sys.exit(main())
