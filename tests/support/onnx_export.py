"""A skip of tests where networks cannot be exported to ONNX."""

from __future__ import annotations

import pytest

from blda.deploy.export_formats import Onnx


def skip_without() -> None:
    """Skip the test, with the reason, where the extra `export` or a torch that it works with is missing."""
    try:
        Onnx().require()
    except ValueError as error:
        pytest.skip(str(error))
