"""Featherweight's client library."""
