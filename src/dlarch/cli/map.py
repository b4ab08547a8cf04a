"""`dlarch map RUN`: what a run has learnt, as maps in two dimensions."""

from __future__ import annotations

from pathlib import Path

from dlarch.cli.options import OptionParser, positive
from dlarch.errors import DataError, did_you_mean
from dlarch.runs import resolve_checkpoint

TENSORS = "tensors.tsv"


def run(argv: list[str]) -> int:
    """Draw each table of the projector, and print how far its maps can be trusted."""
    arguments = _parser().parse(argv)
    tables = _tables(arguments.run)
    if arguments.of is not None:
        if arguments.of not in tables:
            raise DataError(
                f"{arguments.run} has no table '{arguments.of}'."
                f"{did_you_mean(arguments.of, tables)} Tables: {', '.join(tables)}."
            )
        tables = {arguments.of: tables[arguments.of]}
    # The heavy libraries come late: --help must not wait for them.
    from dlarch.analysis.maps import draw_maps, maps_figure, read_table

    for name, folder in tables.items():
        table = read_table(folder)
        maps = draw_maps(table.rows, arguments.metric, arguments.neighbours, arguments.seed)
        path = (arguments.folder or _maps_folder(folder)) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        maps_figure(maps, table, f"{name}, {len(table.rows)} rows").savefig(path)
        trusted = "  ".join(f"{each.method} {each.trustworthiness:.4f}" for each in maps)
        print(f"{path}  trustworthiness among {arguments.neighbours} neighbours: {trusted}")
    return 0


def _parser() -> OptionParser:
    parser = OptionParser("map", "Draw what the projector holds as maps in two dimensions.")
    parser.add_argument(
        "run", help=f"run folder, recipe, or a folder with {TENSORS} and metadata.tsv"
    )
    parser.add_argument("--of", metavar="TABLE", help="one table, such as features; default: all")
    parser.add_argument(
        "--metric", choices=("euclidean", "cosine"), default="euclidean", help="what is near"
    )
    parser.add_argument("--neighbours", type=positive, default=12, help="of trustworthiness")
    parser.add_argument("--seed", type=int, default=0, help="of t-SNE")
    parser.add_argument("--folder", type=Path, help="of the images; default: RUN/maps")
    return parser


def _tables(run: str) -> dict[str, Path]:
    """The newest table of each name below a run, or the one in a folder."""
    given = Path(run)
    if (given / TENSORS).is_file():
        return {given.resolve().name: given}
    folder = resolve_checkpoint(run).parent.parent
    written = sorted(
        (folder / "logs").glob(f"*/*/{TENSORS}"), key=lambda path: int(path.parent.parent.name)
    )
    if not written:
        raise DataError(
            f"{folder} has no table of the projector: it is written when a fit ends, unless "
            "--model.pictures is false."
        )
    return {path.parent.name: path.parent for path in written}


def _maps_folder(table: Path) -> Path:
    """Beside the logs of a run, RUN/logs/STEP/TABLE; else in the folder of the table."""
    logs = table.parent.parent
    return logs.parent / "maps" if logs.name == "logs" else table
