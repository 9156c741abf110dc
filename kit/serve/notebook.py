"""The page in a notebook: in Jupyter and Colab below the cell; on Kaggle behind the address of its proxy."""

from collections.abc import Sequence
from pathlib import Path

from kit.files import expanded
from kit.run import Run
from kit.runtime.session import session_kind
from kit.serve.limits import Limits
from kit.serve.server import Options, Server, start

HEIGHT = 900  # pixels of the frame


class Shown(Server):
    """A page that is up, and how a notebook shows it."""

    def _repr_html_(self) -> str:
        return _FRAMES[session_kind()](self)


def serve(
    run: Run | Path | str,
    port: int = 0,
    examples: Sequence[Path | str] = (),
    folds: Sequence[int] | None = None,
    limits: Limits | None = None,
    trust: bool = False,
) -> Shown:
    """Serve a run, or a file that `kit export` wrote, on this machine alone, until `stop()` or the session's end.

    A notebook shows the page when what is returned is a cell's last value. No link for others is ever made. Raises what
    `kit.serve.server.start` raises.
    """
    options = Options(
        port=port,
        limits=limits or Limits(),
        examples=[expanded(path) for path in examples] or None,
        folds=folds,
        trust=trust,
        framed=True,
        any_name=session_kind() != "local",
    )
    return start(run, options, Shown)


def _frame(page: Server) -> str:
    return f'<iframe src="{page.address}" width="100%" height="{HEIGHT}" title="kit serve"></iframe>'


def _colab(page: Server) -> str:
    from google.colab import output

    output.serve_kernel_port_as_iframe(page.port, height=HEIGHT)
    return ""


def _kaggle(page: Server) -> str:
    return (
        f"The page is up on port {page.port} of this session. Kaggle shows no page below a cell: open "
        f"<code>proxy/{page.port}/</code> under the address of the notebook's Jupyter server, or predict here with "
        "<code>kit.Predictor</code>."
    )


_FRAMES = {"local": _frame, "colab": _colab, "kaggle": _kaggle}
