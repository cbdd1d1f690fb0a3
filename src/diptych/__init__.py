"""Diptych builds, judges and uses vision-language models on a person's own images and text."""
