import pytest
from matplotlib.figure import Figure


@pytest.fixture
def ax():
    """Axes that no window and no other test knows of."""
    return Figure().subplots()
