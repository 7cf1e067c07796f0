"""Plans: what each technique will do to each layer, told from an outline. No framework is imported.

The rules stand in one place for the handlers and for these: refusals, prunability, weight_kernels,
channel_request and, for channels, the packages `structured`.
"""
