"""Telling others: which address may be told, what is said and how it is signed, when it is tried again."""
