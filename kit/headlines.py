"""The scores of a run in few words, for people: what a notebook shows."""

import html
from typing import TYPE_CHECKING

from kit.errors import KitError
from kit.schemas import Comparison, Scores, SetScores

if TYPE_CHECKING:
    from kit.run import Run


def as_text(run: "Run") -> str:
    """One line."""
    return f"<Run {run}: {'; '.join(f'{name} {value}' for name, value in _headlines(run))}>"


def as_html(run: "Run") -> str:
    """A table with a row for each headline."""
    rows = [("run", str(run)), *_headlines(run)]
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def in_a_line(run: "Run") -> str:
    """The scores of a run that goes before another: its folder, and the first headlines."""
    return f"{run}: " + "; ".join(f"{name} {value}" for name, value in _headlines(run)[:2])


def gain(frozen: Comparison, trained: Comparison) -> str:
    """What training has added to the frozen network, of `compare`'s two rows."""
    if trained.difference is None or trained.low is None or trained.high is None:
        return "training against the frozen network: not defined on these images"
    verdict = "adds" if trained.difference >= 0 else "loses"
    sure = "" if trained.low > 0 or trained.high < 0 else "; not sure, as the interval includes 0"
    return (
        f"training {verdict} {abs(trained.difference):.4f} to the frozen network's {frozen.value:.4f} (difference "
        f"{trained.low:+.4f} to {trained.high:+.4f}{sure})"
    )


def _headlines(run: "Run") -> list[tuple[str, str]]:
    """What each headline is, and its value; a run that cannot be read has the reason as its only one."""
    try:
        if not run.scores_path.exists():
            return [("scores", "none yet")]
        scores, is_complete = run.scores, run.is_complete
    except (KitError, OSError) as error:
        return [("scores", f"cannot be read: {error}")]
    lines = [(f"out-of-fold {scores.metric}", _with_interval(scores))]
    if scores.test is not None:
        lines.append((f"test {scores.test.metric}", _with_interval(scores.test)))
    left_out = scores.left_out_clusters if isinstance(scores, Scores) else None
    if left_out is not None and left_out.value is not None and not left_out.frozen:
        lines.append(("left-out clusters", f"{left_out.value:.4f}"))
    folds = scores.folds.values()
    lines.append(("by fold", "  ".join("undefined" if value is None else f"{value:.4f}" for value in folds)))
    if not is_complete:
        lines.append(("not finished", "run it again to continue"))
    if run.submission_path.exists():
        lines.append(("submission", str(run.submission_path)))
    return lines


def _with_interval(scores: SetScores) -> str:
    if scores.value is None:
        return "undefined"
    low, high = scores.interval.low, scores.interval.high
    interval = "" if low is None or high is None else f" ({low:.4f} to {high:.4f})"
    return f"{scores.value:.4f}{interval}"
