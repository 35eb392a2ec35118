"""What Ray shows to actors of the devices that they reserved; groups need a cluster."""

from __future__ import annotations

import pytest

from actors.cluster.devices import PlacementError
from actors.cluster.reservation import check_shown


def test_devices_that_ray_shows_as_reserved_are_taken() -> None:
    check_shown(["3"], "3")
    check_shown(["1", "2"], "1,2")


@pytest.mark.parametrize("shown", [None, "", "0,1,2,3"])
def test_a_ray_that_shows_other_devices_is_refused_with_the_variable(shown: str | None) -> None:
    with pytest.raises(PlacementError, match=r"reserved GPU 3 .*NOSET_CUDA_VISIBLE_DEVICES"):
        check_shown(["3"], shown)
