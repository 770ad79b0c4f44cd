"""Viser controls over selection and editing."""
