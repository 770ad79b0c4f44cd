"""Splatfacto subclasses."""
