"""python -m jaxgen report: a page that shows runs."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxgen.core.errors import InputError, at_least
from jaxgen.media import output_files

Folders = Annotated[
    tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN ...", help_behavior_hint="(one or more)")
]


def report(run: Folders, out: Path = Path("report.html"), megabytes: int = 16, overwrite: bool = False):
    """Write a page for a browser that shows runs: samples over time, curves, evaluations, speed, settings, versions.

    The page is one file that needs no network. Runs are drawn into the same plots. They may be finished, still in
    training, or stopped: nothing in their folders is changed.

    Args:
        run: folders of runs
        out: the output file, a .html
        megabytes: size of all samples in the page together; of more, some are left out, evenly
        overwrite: replace existing files
    """
    from jaxgen.evaluation import html_report
    from jaxgen.evaluation.run_record import open_records

    if not run:
        raise InputError("Name the folder of a run, or those of several.")
    at_least(0, megabytes=megabytes)
    records = open_records(run)
    output_files.check(out, (".html",), overwrite)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    size, notes = html_report.write(records, out, megabytes * 10**6)
    for note in notes:
        print(note)
    count = "1 run" if len(run) == 1 else f"{len(run)} runs"
    print(f"{count}, {size / 1e6:.1f} MB: {out}")
