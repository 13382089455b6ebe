"""The command line `hand_pose_3d`: one short module a command, imported only when that command is used."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from hand_pose_3d import __version__, interrupts

interrupts.end_quietly()

import click  # noqa: E402

from hand_pose_3d.errors import HandPoseError, extra_for, one_line  # noqa: E402

COMMANDS = {
    "predict": "Poses of the hands in images and videos.",
    "live": "Follow the hands in front of a webcam, without ROS.",
    "render": "Render a labelled data set in RHD's layout.",
    "train": "Train HandSegNet, PoseNet or the lifting networks.",
    "evaluate": "Errors on a data set by the paper's protocols.",
    "reproduce": "The paper: render, train, evaluate, report.",
    "convert-weights": "Turn the authors' published weights into ours.",
    "export": "Write the networks as ONNX.",
    "benchmark": "Latency of every stage, beside installed peers.",
}
"""Name and one line of help; `name` is hand_pose_3d.cli.<name with _>, attribute `command`."""


class LazyGroup(click.Group):
    """Lists COMMANDS without importing them, and ends with one line where something is wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        return module.command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed, and the next file that is opened would get what is written there
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
            if hasattr(stream := getattr(sys, name), "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # file names may hold what a terminal does not take
        try:
            with interrupts.ending():
                return super().invoke(ctx)
        except HandPoseError as error:
            raise click.ClickException(one_line(error)) from error
        except BrokenPipeError:
            raise  # click ends quietly when the reader of our output has gone
        except OSError as error:
            if error.strerror is None:
                raise
            where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            raise click.ClickException(one_line(f"{where}{error.strerror}")) from error
        except ModuleNotFoundError as error:
            if not (extra := extra_for(error)):
                raise
            raise click.ClickException(extra) from error
        except KeyboardInterrupt:
            ctx.exit(130)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="hand_pose_3d")
def main() -> None:
    """3D hand pose from one colour camera (Zimmermann & Brox, ICCV 2017)."""
