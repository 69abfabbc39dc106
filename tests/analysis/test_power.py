"""What a number of problems can show, before a run."""

from raybridge.analysis.power import could_show


def test_the_plan_says_what_its_problems_could_show():
    assert "200 test problems, of which two trials answer 20% differently, show a difference of 8.9 points" in could_show(200)
    assert "1,319 test problems, of which two trials answer 20% differently, show a difference of 3.5 points" in could_show(
        1319
    )
    assert could_show(8).endswith("can show no difference")
