"""What the driver says about the GPU."""

from mmcnnmod.evidence.machine import busy_percent, machine, watched_gpu


def test_the_start_does_not_count_as_idle():
    assert busy_percent('0\n0\n90\n0\n80\n100\n') == 85
    assert busy_percent('0\n[N/A]\n') is None


def test_a_cpu_is_not_watched():
    with watched_gpu('cpu') as found:
        pass
    assert found == {}
    assert 'Python 3' in machine('cpu')
