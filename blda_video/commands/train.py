"""Adapt a network to unlabelled images or video.

    blda train CONFIG [VARIANT] [key=value ...] [--resume]
    blda train demo training.steps=100
    accelerate launch -m blda_video.commands.train gta2cs mic method=self_training

CONFIG: a YAML file, or the name of a shipped config. VARIANT: one or more files or names on top of it, such as mic.
key=value: any key, for example training.steps=100, method=self_training or offsets=[-2,-1]. The folder RUN/METHOD gets
config.yaml, checkpoints, metrics.jsonl, result.json and TensorBoard files; watch it with `tensorboard --logdir runs`.
data_root=DIR reads all data from DIR instead of data/.

--dry-run builds everything, takes a few steps of each method, and prints memory and the time that the run will take;
--json prints the same as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from blda_video.commands.command_line import add_overrides, one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None, kind: str | None = None) -> None:
    """Run the command.

    kind: 'images' or 'video', for doors that train one of them only; None finds it from the config.
    """
    arguments = parser(__doc__)
    arguments.add_argument("config", help="YAML file, or the name of a shipped config")
    add_overrides(arguments)
    arguments.add_argument("--resume", action="store_true", help="continue the newest checkpoint of the run's folder")
    arguments.add_argument("--dry-run", action="store_true", help="take a few steps; print memory and time of the run")
    arguments.add_argument("--json", action="store_true", help="with --dry-run: print numbers")
    given = parse(arguments, argv)
    with one_line_errors(given.config, *given.overrides):
        if given.dry_run and given.resume:
            raise ValueError("--dry-run trains nothing that --resume could continue; give one of them")
        if given.json and not given.dry_run:
            raise ValueError("--json prints the numbers of --dry-run; the scores of a run are in its result.json")
        if given.dry_run:
            from blda_video.jobs.dry_run import as_json, as_text, dry_run

            report = (as_json if given.json else as_text)(dry_run(given.config, given.overrides, kind))
        else:
            from blda_video.jobs.training_job import train_config

            report = train_config(given.config, given.overrides, given.resume, kind)
    if report:
        print(report)


if __name__ == "__main__":
    main()
