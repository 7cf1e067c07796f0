"""The parameters of every technique, a file each. `featherweight.spec` shows them all."""

__all__: list[str] = []
