"""`dlarch judge RUN`: how far made images are from real ones."""

from __future__ import annotations

from dlarch.cli.options import OptionParser, check_device, positive


def run(argv: list[str]) -> int:
    """Print each figure with its name, a line for each run."""
    arguments = _parser().parse(argv)
    # The heavy libraries come late: --help must not wait for them.
    from dlarch.analysis.made import judge_images

    check_device(arguments.device)
    options = {"count": arguments.n, "split": arguments.split, "seed": arguments.seed}
    for name in arguments.runs:
        found = judge_images(
            name, by=arguments.by, fid=arguments.fid, device=arguments.device, **options
        )
        figures = "  ".join(f"{metric} {value:.4f}" for metric, value in found.items())
        print(f"{name}  {figures}", flush=True)
    return 0


def _parser() -> OptionParser:
    parser = OptionParser("judge", "Compare images that trained models make with real ones.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder or recipe")
    parser.add_argument("--by", metavar="RUN", help="the run of a classifier of such images")
    parser.add_argument("--fid", action="store_true", help="the Frechet Inception distance")
    parser.add_argument("--n", type=positive, help="images that are made; default: as many as real")
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="test",
        help="of the real images",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    return parser
