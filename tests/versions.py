"""Which releases the tests run with: some of the older ones cannot do everything."""


def release(module):
    """Major and minor version of a package that was imported, such as ``(2, 21)``."""
    return tuple(int(number) for number in module.__version__.split(".")[:2])
