"""Drawings that pages share: the time line of an answer, thumbnails, colours, figures in words."""
