"""What all figures share."""

from kit.report import style


def test_long_names_leave_a_figure_its_room():
    def draw(axes):
        axes.plot([0, 1], [0, 1], label="x" * 400)
        axes.legend()

    figure = style.drawn(draw)
    (entry,) = figure.axes[0].get_legend().get_texts()
    assert entry.get_text() == "x" * 39 + "…"
    assert figure.axes[0].get_position().width > 0.5
